"""Frechet distances of runs from the same seeds: the randomness that they share cancels in their difference.

The interval of a difference is often a tenth of either distance's interval, and the bias of few samples, which is much
the same on both sides, cancels too. Compare two methods in this way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .estimate import Estimate, jackknife
from .frechet import Gaussian, distances_without, frechet_distance, merged
from .moments import Moments


@dataclass(frozen=True)
class Distances:
    """The Frechet distance of all `samples`, and those without each part of them in turn."""

    whole: float
    without: tuple[float, ...]
    samples: int

    @classmethod
    def of(cls, parts: Sequence[Moments], reference: Gaussian) -> "Distances":
        """From the moments of disjoint parts of about the same size. Raises ValueError for fewer than two."""
        if len(parts) < 2:
            raise ValueError(f"a jackknife needs at least two parts, got {len(parts)}")
        whole = merged(parts)
        return cls(frechet_distance(whole, reference), tuple(distances_without(parts, reference)), whole.count)


def corrected_estimate(distances: Distances, name: str = "frechet_corrected") -> Estimate:
    """The distance minus its bias of first order in 1 / N, by the jackknife (Quenouille, 1956); it may be negative."""
    (low, high), bias = jackknife(distances.whole, distances.without)
    return Estimate(name, distances.whole - bias, (low - bias, high - bias), distances.samples)


def difference_estimate(ours: Distances, theirs: Distances, name: str = "frechet_difference") -> Estimate:
    """Our distance minus theirs, negative where ours is smaller, with the interval of the difference itself.

    Sample i of both must come from the same seed; otherwise the interval is as wide as for independent runs.

    Raises:
        ValueError: sides of other numbers of samples or parts.
    """
    if (ours.samples, len(ours.without)) != (theirs.samples, len(theirs.without)):
        raise ValueError(
            f"a difference needs runs of the same seeds in the same parts, got {ours.samples} samples in "
            f"{len(ours.without)} parts and {theirs.samples} in {len(theirs.without)}"
        )
    value = ours.whole - theirs.whole
    interval, _ = jackknife(value, [a - b for a, b in zip(ours.without, theirs.without, strict=True)])
    return Estimate(name, value, interval, ours.samples)
