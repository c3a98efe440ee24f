"""Measuring images: streaming statistics, distances between sets, resumable runs, reports."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy


if TYPE_CHECKING:
    from ..networks.extractors import Extractor, Transform, load_extractor
    from .metrics.estimate import Estimate, jackknife, mean_estimate
    from .metrics.frechet import frechet_distance, frechet_estimate
    from .metrics.kernels import cmmd, cmmd_estimate, kid, kid_estimate, kid_subsets
    from .metrics.moments import Moments
    from .metrics.neighbours import density_coverage, neighbour_estimates, precision_recall
    from .metrics.scores import clip_score, inception_score, inception_score_estimate
    from .publish import publish_curves
    from .references import load_reference, load_side
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
    from .run import collect, extractor_measure, pipeline_draw
    from .sources import ImageSet, Reference, find_run, read_statistics
    from .store import ChunkStore
    from .study import Subject, measure_setting
    from .summary import estimates_row, summarise


# `study` and `publish` are functions in the modules of those names; import them from there.
__getattr__, __dir__ = lazy(__name__, __file__)

__all__ = [
    "ChunkStore",
    "Estimate",
    "Extractor",
    "ImageSet",
    "Moments",
    "Reference",
    "Subject",
    "Transform",
    "clip_score",
    "cmmd",
    "cmmd_estimate",
    "collect",
    "contact_sheet",
    "curve_plot",
    "density_coverage",
    "describe_run",
    "estimates_row",
    "extractor_measure",
    "find_run",
    "frechet_distance",
    "frechet_estimate",
    "inception_score",
    "inception_score_estimate",
    "jackknife",
    "kid",
    "kid_estimate",
    "kid_subsets",
    "load_extractor",
    "load_reference",
    "load_side",
    "markdown_table",
    "mean_estimate",
    "measure_setting",
    "neighbour_estimates",
    "pareto_front",
    "pareto_plot",
    "pipeline_draw",
    "precision_recall",
    "publish_curves",
    "read_report",
    "read_statistics",
    "summarise",
    "write_report",
]
