"""Measuring pictures: streaming statistics, distances between sets, resumable runs, reports."""

from .frechet import frechet_distance
from .moments import Moments
from .report import (
    contact_sheet,
    curve_plot,
    describe_run,
    markdown_table,
    pareto_front,
    pareto_plot,
    read_report,
    write_report,
)


__all__ = [
    "Moments",
    "contact_sheet",
    "curve_plot",
    "describe_run",
    "frechet_distance",
    "markdown_table",
    "pareto_front",
    "pareto_plot",
    "read_report",
    "write_report",
]
