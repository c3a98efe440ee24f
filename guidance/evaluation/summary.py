"""From what a run has stored to the figures of a report's row."""

from collections.abc import Sequence

from .metrics.estimate import Figure, mean_figure
from .metrics.frechet import PARTS, frechet_figure
from .metrics.kernels import cmmd_figure, kid_figure
from .metrics.neighbours import neighbour_figures
from .metrics.scores import inception_score_figure
from .sources import Reference
from .store import ChunkStore


#: What may be asked for. All but the first and the last need the features of both sides in memory.
MEASURES = ("frechet", "kid", "neighbours", "cmmd", "inception_score")
#: Those that the features of a reference's single samples are not needed for.
NEEDS_NO_FEATURES = frozenset({"frechet", "inception_score"})
#: Stored for other ends than a figure of their own.
_NO_SCORES = frozenset({"features", "logits", "images", "nfe"})


def summarise(store: ChunkStore, reference: Reference | None, measures: Sequence[str] = ("frechet",)) -> list[Figure]:
    """The figures of a finished run: each of `measures`, then the mean of every score that a picture has (alignment,
    accuracy, ...).

    Raises:
        ValueError: an unknown measure, or one that needs what is not there: a reference, its features, or logits.
    """
    if unknown := set(measures) - set(MEASURES):
        raise ValueError(f"unknown measure {', '.join(sorted(unknown))}; known are {', '.join(MEASURES)}")
    check_reference(reference, measures)
    names = store.names()
    figures = []
    for measure in measures:
        if measure == "frechet":
            parts = max(1, min(PARTS, store.samples // 2))
            figures.append(frechet_figure(store.moments(parts), reference))
        elif measure == "inception_score":
            if "logits" not in names:
                raise ValueError("the Inception score needs logits, which this run has not stored")
            figures.append(inception_score_figure(store.array("logits")))
        elif measure == "neighbours":
            figures += neighbour_figures(reference.features, store.array("features"))
        else:
            figures.append(
                {"kid": kid_figure, "cmmd": cmmd_figure}[measure](store.array("features"), reference.features)
            )
    return figures + [mean_figure(name, store.array(name)) for name in names if name not in _NO_SCORES]


def check_reference(reference: Reference | None, measures: Sequence[str]) -> None:
    """Raise ValueError if `measures` need more than `reference` has; to be asked before a long run."""
    for measure in measures:
        if measure == "inception_score":
            continue
        if reference is None:
            raise ValueError(f"{measure} needs a reference")
        if measure not in NEEDS_NO_FEATURES and reference.features is None:
            raise ValueError(f"{measure} needs the features of the reference's samples, and it has statistics only")


def figures_row(figures: Sequence[Figure]) -> dict:
    """The fields of one report row: every figure with its interval and warning."""
    return {name: value for figure in figures for name, value in figure.as_row().items()}
