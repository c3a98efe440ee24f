"""Measuring pictures: streaming statistics, distances between sets, resumable runs, reports."""

from typing import TYPE_CHECKING

from ..core.lazy import lazy


if TYPE_CHECKING:
    from ..networks.extractors import Extractor, Transform, clip, dinov2, inception, load_extractor
    from .metrics.estimate import Figure, jackknife, mean_figure
    from .metrics.frechet import frechet_distance, frechet_figure
    from .metrics.kernels import cmmd, cmmd_figure, kid, kid_figure, kid_subsets
    from .metrics.moments import Moments
    from .metrics.neighbours import density_coverage, neighbour_figures, precision_recall
    from .metrics.scores import clip_score, correct, inception_score, inception_score_figure
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
    from .sources import Pictures, Reference, find_run, read_statistics
    from .store import ChunkStore
    from .study import Subject, measure_setting
    from .summary import figures_row, summarise


# `study` and `publish` are functions in the modules of those names; import them from there.
__getattr__, __dir__ = lazy(__name__, __file__)

__all__ = [
    "ChunkStore",
    "Extractor",
    "Figure",
    "Moments",
    "Pictures",
    "Reference",
    "Subject",
    "Transform",
    "clip",
    "clip_score",
    "cmmd",
    "cmmd_figure",
    "collect",
    "contact_sheet",
    "correct",
    "curve_plot",
    "density_coverage",
    "describe_run",
    "dinov2",
    "extractor_measure",
    "figures_row",
    "find_run",
    "frechet_distance",
    "frechet_figure",
    "inception",
    "inception_score",
    "inception_score_figure",
    "jackknife",
    "kid",
    "kid_figure",
    "kid_subsets",
    "load_extractor",
    "load_reference",
    "load_side",
    "markdown_table",
    "mean_figure",
    "measure_setting",
    "neighbour_figures",
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
