"""A measured value with its sample count, its interval, and a warning where it should not be trusted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats


LEVEL = 0.95  # of all intervals


@dataclass(frozen=True)
class Estimate:
    """What was measured.

    Attributes:
        name: as in the rows of a report.
        value: the number.
        interval: ends of its 95 % interval; None where one sample allows none.
        samples: how many samples it was computed from.
        warning: why it should not be trusted, and by which rule; None without such a reason.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    samples: int
    warning: str | None = None

    def as_row(self) -> dict:
        """Fields for a report: the value, `NAME_interval`, and `NAME_warning` if there is one."""
        row: dict = {self.name: self.value}
        if self.interval is not None:
            row[f"{self.name}_interval"] = list(self.interval)
        return row | ({f"{self.name}_warning": self.warning} if self.warning else {})


def mean_estimate(name: str, values: torch.Tensor | np.ndarray, warning: str | None = None) -> Estimate:
    """The mean of one value per sample (N,): Wilson's interval for true or false, else a bootstrap of 1000 draws.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    values = np.asarray(values.cpu() if isinstance(values, torch.Tensor) else values)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError(f"{name} needs one value per sample, and at least one sample, got the shape {values.shape}")
    value = float(values.mean(dtype=np.float64))
    interval: tuple[float, float] | None
    if not np.isfinite(value):
        raise ValueError(f"{name}: a value is not finite")
    if values.dtype == bool:
        ends = stats.binomtest(int(values.sum()), len(values)).proportion_ci(LEVEL, method="wilson")
        interval = (float(ends.low), float(ends.high))
    else:
        interval = bootstrap_interval(values)
    return Estimate(name, value, interval, len(values), warning)


def bootstrap_interval(values: np.ndarray, draws: int = 1000, seed: int = 0) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean of `values` (N,); None for a single value. One seed, one result."""
    if len(values) < 2:
        return None
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean(dtype=np.float64) for _ in range(draws)]
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def jackknife(value: float, without: Sequence[float]) -> tuple[tuple[float, float], float]:
    """Interval and bias of a metric from its values without each of G groups of the samples in turn.

    The delete-a-group jackknife (Shao and Tu, 1995): the variance is (G - 1) / G times the sum of squares about the
    mean, and Student's t with G - 1 degrees of freedom gives the interval. The bias is the part of `value` that falls
    as 1 / N: positive where `value` is too large.

    Raises:
        ValueError: fewer than two groups.
    """
    groups = len(without)
    if groups < 2:
        raise ValueError(f"a jackknife needs at least two groups, got {groups}")
    mean = float(np.mean(without))
    error = np.sqrt((groups - 1) / groups * np.square(np.asarray(without) - mean).sum())
    half = float(stats.t.ppf((1 + LEVEL) / 2, groups - 1) * error)
    return (value - half, value + half), (groups - 1) * (mean - value)
