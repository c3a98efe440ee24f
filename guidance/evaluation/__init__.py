"""Measuring pictures: streaming statistics, distances between sets, resumable runs, reports."""

from .figure import Figure, jackknife, mean_figure
from .frechet import frechet_distance, frechet_figure
from .kernels import cmmd, cmmd_figure, kid, kid_figure, kid_subsets
from .moments import Moments
from .neighbours import density_coverage, neighbour_figures, precision_recall
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
from .scores import clip_score, correct, inception_score, inception_score_figure


__all__ = [
    "Figure",
    "Moments",
    "clip_score",
    "cmmd",
    "cmmd_figure",
    "contact_sheet",
    "correct",
    "curve_plot",
    "density_coverage",
    "describe_run",
    "frechet_distance",
    "frechet_figure",
    "inception_score",
    "inception_score_figure",
    "jackknife",
    "kid",
    "kid_figure",
    "kid_subsets",
    "markdown_table",
    "mean_figure",
    "neighbour_figures",
    "pareto_front",
    "pareto_plot",
    "precision_recall",
    "read_report",
    "write_report",
]
