"""A method against plain guidance of the same effective weight, which lies between two points of its own curve."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from diffusion_guidance.evaluation.effective import FIELD
from diffusion_guidance.evaluation.metrics.estimate import Estimate, jackknife
from diffusion_guidance.evaluation.metrics.frechet import PARTS
from diffusion_guidance.evaluation.metrics.moments import Moments
from diffusion_guidance.evaluation.metrics.paired import Distances
from diffusion_guidance.evaluation.sources import Reference
from diffusion_guidance.evaluation.store import ChunkStore


@dataclass(frozen=True)
class Drawn:
    """The values of a row over all its seeds (the first) and without each of G parts of them: arrays (1 + G,).

    Rows of the same seeds have the same parts, so that the chance they share drops out of their differences.
    """

    weight: np.ndarray
    frechet: np.ndarray
    alignment: np.ndarray
    samples: int

    @classmethod
    def of(cls, store: ChunkStore, reference: Reference) -> "Drawn":
        """From a finished run, whose alignment may be called accuracy."""
        parts = min(PARTS, store.samples // 2)
        moments: list[Moments] = store.moments(parts)
        distances = Distances.of(moments, reference)
        frechet = np.array([distances.whole, *distances.without])
        names = store.names()  # no weight where no step has both predictions
        weight = _means(store.array(FIELD), parts) if FIELD in names else np.full(1 + parts, np.nan)
        score = store.array("alignment" if "alignment" in names else "accuracy")
        return cls(weight, frechet, _means(score, parts), store.samples)


def difference_at_equal_weight(ours: Drawn, curve: Sequence[Drawn]) -> list[Estimate]:
    """Our values minus those of plain guidance at our effective weight, between the points of `curve` around it.

    Between two points it is the polynomial through them and their next neighbours: its values bend, and a straight line
    would lie above them and flatter us.

    Effective weights are uncertain too: each replicate of the jackknife has its own, and its own place on the curve.

    Returns:
        `frechet_difference` and `alignment_difference`; nothing outside of the curve, which is
        not extended, or without a weight.
    """
    curve = sorted((each for each in curve if np.isfinite(each.weight[0])), key=lambda each: each.weight[0])
    places = [i for i, (a, b) in enumerate(pairwise(curve)) if a.weight[0] <= ours.weight[0] <= b.weight[0]]
    if not places:
        return []
    near = curve[max(0, places[0] - 1) : places[0] + 3]
    shares = _shares(ours.weight, np.stack([each.weight for each in near]))
    estimates = []
    for name in ("frechet", "alignment"):
        theirs = (shares * np.stack([getattr(each, name) for each in near])).sum(0)
        estimates.append(_estimate(f"{name}_difference", getattr(ours, name) - theirs, ours.samples))
    return estimates


def difference(ours: Drawn, other: Drawn, name: str) -> Estimate:
    """Our Frechet distance minus that of another row of the same seeds."""
    return _estimate(name, ours.frechet - other.frechet, ours.samples)


def _estimate(name: str, values: np.ndarray, samples: int) -> Estimate:
    interval, _ = jackknife(float(values[0]), values[1:].tolist())
    return Estimate(name, float(values[0]), interval, samples)


def _shares(place: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Lagrange's: (P, R), what each of P points (P, R) counts for at `place` (R,), of R curves."""
    others = [np.delete(points, i, 0) for i in range(len(points))]
    return np.stack([np.prod((place - rest) / (own - rest), 0) for own, rest in zip(points, others, strict=True)])


def _means(values: np.ndarray, parts: int) -> np.ndarray:
    """(1 + parts,) the mean of all values (N,), and those without each part; images without a value do not count."""
    values = values.astype(np.float64)
    known = np.isfinite(values)
    sums, counts = (_by_part(each, parts) for each in (np.where(known, values, 0.0), known.astype(np.float64)))
    return np.concatenate([[sums.sum() / counts.sum()], (sums.sum() - sums) / (counts.sum() - counts)])


def _by_part(values: np.ndarray, parts: int) -> np.ndarray:
    bounds = [i * len(values) // parts for i in range(parts + 1)]
    return np.array([values[start:stop].sum() for start, stop in pairwise(bounds)])
