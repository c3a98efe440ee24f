"""Kernel distances between two sets of features: KID (arXiv 1801.01401) and CMMD (arXiv 2401.09603)."""

import numpy as np
from scipy import stats

from .estimate import LEVEL, Estimate, jackknife
from .features import as_sides


def kid(x: np.ndarray, y: np.ndarray) -> float:
    """Kernel distance of x (N, D) and y (M, D): the unbiased estimate of MMD^2 under `(x.y / D + 1)^3`.

    It may be slightly negative. `kid_subsets` is the form that is usually reported.

    Raises:
        ValueError: other dimensions, fewer than two samples on a side, or features that are not finite.
    """
    x, y = as_sides(x, y)
    dim = x.shape[1]

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / dim + 1) ** 3

    within = 0.0
    for side in (x, y):
        table = kernel(side, side)
        within += (table.sum() - np.trace(table)) / (len(side) * (len(side) - 1))
    return float(within - 2 * kernel(x, y).mean())


def kid_subsets(x: np.ndarray, y: np.ndarray, subsets: int = 100, size: int = 1000, seed: int = 0) -> np.ndarray:
    """(subsets,) KID of random subsets of `size` on each side; their mean is the KID that papers report.

    Raises:
        ValueError: as `kid`, or a side has fewer than `size` samples.
    """
    x, y = as_sides(x, y)
    if min(len(x), len(y)) < size:
        raise ValueError(f"subsets of {size} need as many samples on each side, got {len(x)} and {len(y)}")
    rng = np.random.default_rng(seed)
    draw = [[rng.choice(len(side), size, replace=False) for side in (x, y)] for _ in range(subsets)]
    return np.array([kid(x[i], y[j]) for i, j in draw])


def kid_estimate(x: np.ndarray, y: np.ndarray, subsets: int = 100, size: int = 1000, name: str = "kid") -> Estimate:
    """Mean of `kid_subsets`; its interval is their spread, scaled to all N samples (Politis and Romano, 1994).

    Subsets hold at most half of a side, since subsets of everything would not differ. KID is unbiased; the warning says
    that subsets are smaller than asked for, where it is noisy.

    Raises:
        ValueError: as `kid`, or fewer than four samples on a side.
    """
    x, y = as_sides(x, y, least=4)
    count = min(len(x), len(y))
    fitting = min(size, count // 2)
    values = kid_subsets(x, y, subsets, fitting)
    share = fitting / count
    half = float(stats.norm.ppf((1 + LEVEL) / 2) * values.std(ddof=1) * np.sqrt(share / (1 - share)))
    value = float(values.mean())
    warning = f"subsets of {fitting} instead of {size}, for lack of samples (rule: half of a side)"
    return Estimate(name, value, (value - half, value + half), count, warning if fitting < size else None)


def cmmd(x: np.ndarray, y: np.ndarray, bandwidth: float = 10.0, scale: float = 1000.0) -> float:
    """1000 MMD^2 of CLIP embeddings x (N, D) and y (M, D) under a Gaussian kernel of bandwidth 10, as its authors do.

    Rows are brought to unit length first. Their estimator is the biased one (it counts a sample with itself too).

    Raises:
        ValueError: as `kid`, or a row of zeros.
    """
    x, y = (_unit(side) for side in as_sides(x, y))
    means = [_gaussian_sum(a, b, bandwidth) / (len(a) * len(b)) for a, b in ((x, x), (y, y), (x, y))]
    return scale * (means[0] + means[1] - 2 * means[2])


def cmmd_estimate(
    x: np.ndarray, y: np.ndarray, bandwidth: float = 10.0, scale: float = 1000.0, groups: int = 10, name: str = "cmmd"
) -> Estimate:
    """`cmmd` with an interval from leaving out each of `groups` of x in turn; y is taken as exact.

    It comes with a warning when the bias of counting samples with themselves exceeds a tenth of the value.
    """
    x, y = (_unit(side) for side in as_sides(x, y))
    parts = np.array_split(x, min(groups, len(x)))
    counts = np.array([len(part) for part in parts])
    within = np.array([[_gaussian_sum(a, b, bandwidth) for b in parts] for a in parts])
    across = np.array([_gaussian_sum(part, y, bandwidth) for part in parts])
    other = _gaussian_sum(y, y, bandwidth)

    def without(dropped: int | None) -> float:
        kept = np.arange(len(parts)) != (-1 if dropped is None else dropped)
        n, m = counts[kept].sum(), len(y)
        return float(scale * (within[kept][:, kept].sum() / n**2 + other / m**2 - 2 * across[kept].sum() / (n * m)))

    value = without(None)
    interval, _ = jackknife(value, [without(i) for i in range(len(parts))])
    # A sample with itself has the kernel 1 in place of the mean over pairs.
    pairs = ((within.sum(), len(x)), (other, len(y)))
    bias = sum(scale * (1 - (total - n) / (n * (n - 1))) / n for total, n in pairs)
    warning = f"about {bias:.3g} of this is the bias of {len(x)} and {len(y)} samples (rule: above a tenth)"
    return Estimate(name, value, (max(interval[0], 0.0), interval[1]), len(x), warning if bias > 0.1 * value else None)


def _unit(x: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not length.all():
        raise ValueError("an embedding is all zeros, which has no direction")
    return x / length


def _gaussian_sum(x: np.ndarray, y: np.ndarray, bandwidth: float, rows: int = 1024) -> float:
    """Sum of exp(-|x - y|^2 / (2 bandwidth^2)) over all pairs of unit vectors, in blocks to bound memory."""
    blocks = (x[i : i + rows] for i in range(0, len(x), rows))
    return float(sum(np.exp((block @ y.T - 1) / bandwidth**2).sum() for block in blocks))
