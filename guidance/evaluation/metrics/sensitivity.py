"""How much a metric depends on a setting: the range of the setting in which the metric is nearly at its best."""

import itertools
from collections.abc import Mapping, Sequence


def sensitivity(rows: Sequence[Mapping], x: str = "weight", y: str = "frechet", share: float = 0.2) -> dict:
    """The range of `x` around the best `y`, of which smaller is better, in which y is at most (1 + share) of the best.

    Between neighbouring rows y is taken as linear. The range ends at the first crossing on either side, or at the last
    row. A wide range means that the setting need not be tuned.

    Returns:
        `best` (the smallest y), `at` (its x), `low` and `high` (the ends), and `width` (their distance).

    Raises:
        ValueError: no rows, a negative y, or two rows of one x.
    """
    points = sorted((row[x], row[y]) for row in rows)
    if not points or min(value for _, value in points) < 0 or len({place for place, _ in points}) < len(points):
        raise ValueError(f"sensitivity needs rows that have a {y} of at least 0 and each another {x}")
    at, best = min(points, key=lambda point: point[1])
    limit = (1 + share) * best
    low = _end([point for point in reversed(points) if point[0] <= at], limit)
    high = _end([point for point in points if point[0] >= at], limit)
    return {"best": best, "at": at, "low": low, "high": high, "width": high - low}


def rank_correlation(rows: Sequence[Mapping], x: str, y: str) -> float:
    """Spearman's rank correlation of two values over `rows`, in [-1, 1]."""
    from scipy.stats import spearmanr  # lazy: slow to import

    return float(spearmanr([row[x] for row in rows], [row[y] for row in rows]).statistic)


def _end(points: list[tuple[float, float]], limit: float) -> float:
    """Where a line through `points`, the first of them within `limit`, leaves it; or the last point."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if y1 > limit:
            return x0 + (x1 - x0) * (limit - y0) / (y1 - y0)
    return points[-1][0]
