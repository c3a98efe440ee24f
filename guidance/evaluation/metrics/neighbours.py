"""Fidelity and variety separately: precision and recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

A set is covered by balls around its samples that reach their k-th nearest neighbour in the same set. Distances are
float64 and computed in blocks of rows, so memory grows with the number of samples, not with its square.
"""

from collections.abc import Iterator

import numpy as np
import torch

from .estimate import Estimate, mean_estimate
from .features import as_sides


FEW = 10_000  # below, precision and recall move with the count; the papers use at least this many


def precision_recall(real: np.ndarray, fake: np.ndarray, k: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Which samples of `fake` (N, D) lie in the balls of `real` (M, D), and which of `real` in the balls of `fake`.

    Returns:
        ((N,) bool, (M,) bool); their means are precision and recall.

    Raises:
        ValueError: other dimensions, features that are not finite, or not more than k samples on a side.
    """
    x, y = _sides(real, fake, k)
    return _inside(y, x, neighbour_radii(x, k)), _inside(x, y, neighbour_radii(y, k))


def density_coverage(real: np.ndarray, fake: np.ndarray, k: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """In how many balls of `real` each of `fake` lies, over k; and which balls of `real` hold any of `fake`.

    Returns:
        ((N,) float64, (M,) bool); their means are density, which may exceed 1, and coverage.

    Raises:
        ValueError: as `precision_recall`.
    """
    x, y = _sides(real, fake, k)
    radii = neighbour_radii(x, k)
    counts = [(distances < radii).sum(1) for distances in _blocks(y, x)]
    nearest = torch.cat([distances.amin(1) for distances in _blocks(x, y)])
    return torch.cat(counts).double() / k, nearest < radii


def neighbour_estimates(real: np.ndarray, fake: np.ndarray) -> list[Estimate]:
    """Precision and recall (k = 3), density and coverage (k = 5), each with an interval for given balls.

    Precision and recall depend on how many samples draw the balls, so they come with a warning below 10,000 per side,
    and all four when the sides differ in number.
    """
    few = unequal = None
    if len(real) != len(fake):
        unequal = f"{len(fake)} samples against {len(real)}: compare only with figures of the same counts"
    elif len(real) < FEW:
        few = f"{len(real)} samples per side: compare only with figures of the same count (rule: below {FEW})"
    precision, recall = precision_recall(real, fake)
    density, coverage = density_coverage(real, fake)
    return [
        mean_estimate("precision", precision, unequal or few),
        mean_estimate("recall", recall, unequal or few),
        mean_estimate("density", density, unequal),
        mean_estimate("coverage", coverage, unequal),
    ]


def neighbour_radii(x: torch.Tensor, k: int) -> torch.Tensor:
    """(N,) distance of each row of x (N, D) to its k-th nearest other row."""
    # The row itself is among its own neighbours.
    return torch.cat([distances.kthvalue(k + 1, dim=1).values for distances in _blocks(x, x)])


def _inside(points: torch.Tensor, centres: torch.Tensor, radii: torch.Tensor) -> torch.Tensor:
    return torch.cat([(distances <= radii).any(1) for distances in _blocks(points, centres)])


def _blocks(x: torch.Tensor, y: torch.Tensor, rows: int = 1024) -> Iterator[torch.Tensor]:
    return (torch.cdist(block, y) for block in x.split(rows))


def _sides(real: np.ndarray, fake: np.ndarray, k: int) -> list[torch.Tensor]:
    return [torch.from_numpy(side) for side in as_sides(real, fake, least=k + 1)]
