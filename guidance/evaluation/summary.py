"""Compute the values of a report's row from what a run has stored."""

from collections.abc import Callable, Sequence

from .effective import FIELD, weight_estimate
from .metrics.estimate import Estimate, mean_estimate
from .metrics.frechet import PARTS
from .metrics.registry import MEASURES, find_metrics
from .sources import Reference
from .store import ChunkStore


#: How each need of a metric is met; None where it is not.
_PROVIDE: dict[str, Callable[[ChunkStore, Reference | None], object]] = {
    "parts": lambda store, _: store.moments(max(1, min(PARTS, store.samples // 2))),
    "features": lambda store, _: store.array("features"),
    "logits": lambda store, _: store.array("logits") if "logits" in store.names() else None,
    "reference": lambda _, reference: reference,
    "reference_features": lambda _, reference: None if reference is None else reference.features,
}
#: Stored arrays that are not scores of single images.
NOT_SCORES = frozenset({"features", "logits", "images", "nfe", FIELD})


def summarise(store: ChunkStore, reference: Reference | None, measures: Sequence[str] = ("frechet",)) -> list[Estimate]:
    """The metrics of a finished run: each of `measures`, then the mean of every score that an image has (alignment,
    accuracy, ...).

    Raises:
        ValueError: an unknown measure, or one that needs what is not there: a reference, its features, or logits.
    """
    check_reference(reference, measures)
    estimates: list[Estimate] = []
    for metric in find_metrics(measures):
        given = {need: _PROVIDE[need](store, reference) for need in metric.needs}
        if missing := [need for need, value in given.items() if value is None]:
            raise ValueError(f"{metric.name} needs {', '.join(missing)}, which this run has not stored")
        found = metric.function(*given.values())
        estimates += [found] if isinstance(found, Estimate) else found
    scores = [mean_estimate(name, store.array(name)) for name in store.names() if name not in NOT_SCORES]
    return estimates + scores + (weight_estimate(store.array(FIELD)) if FIELD in store.names() else [])


def check_reference(reference: Reference | None, measures: Sequence[str]) -> None:
    """Raise ValueError if `measures` need more than `reference` has; to be asked before a long run."""
    for metric in find_metrics(measures):
        if reference is None:
            if {"reference", "reference_features"} & set(metric.needs):
                raise ValueError(f"{metric.name} needs a reference")
        elif "reference_features" in metric.needs and reference.features is None:
            raise ValueError(f"{metric.name} needs the features of the reference's samples, and it has statistics only")


def check_arrays(arrays: dict, measures: Sequence[str]) -> None:
    """Raise ValueError if `measures` need arrays, such as logits, that are not measured."""
    for metric in find_metrics(measures):
        if missing := [need for need in metric.needs if need in ("features", "logits") and need not in arrays]:
            raise ValueError(f"{metric.name} needs {', '.join(missing)}, which this extractor does not give")


def needs_features(measures: Sequence[str]) -> bool:
    """Whether any of `measures` needs the features of a reference's single samples."""
    return any("reference_features" in metric.needs for metric in find_metrics(measures))


def estimates_row(estimates: Sequence[Estimate]) -> dict:
    """The fields of one report row: every value with its interval and warning."""
    return {name: value for estimate in estimates for name, value in estimate.as_row().items()}


__all__ = ["MEASURES", "check_arrays", "check_reference", "estimates_row", "needs_features", "summarise"]
