"""Guidance weights as callers give them: a number, one number per step, a tensor, or a function of the step."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from .step import Step


Weight = float | Sequence[float] | torch.Tensor | Callable[[Step], float | torch.Tensor]


def as_weight(weight: Weight | None) -> Weight | None:
    """`weight` in plain numbers where it can be: NumPy arrays become lists, NumPy and 0-d tensor numbers become floats.

    Raises:
        ValueError: a weight that is not finite, an empty sequence, or anything else that is not a `Weight`.
    """
    if isinstance(weight, np.ndarray | np.generic) or (isinstance(weight, torch.Tensor) and weight.ndim == 0):
        weight = weight.tolist()
    if weight is None or callable(weight):
        return weight
    if isinstance(weight, torch.Tensor):
        good = weight.is_floating_point() and bool(torch.isfinite(weight).all())
    else:
        numbers = weight if isinstance(weight, Sequence) and weight else [weight]
        good = all(isinstance(number, float | int) and math.isfinite(number) for number in numbers)
    if not good:
        raise ValueError(f"weight must be a finite number, one such number a step, or a function, got {weight!r}")
    return weight


def weight_at(weight: Weight, step: Step, along: int | None = None) -> float | torch.Tensor:
    """The weight of `step`, for `classifier_free_guidance`.

    Args:
        weight: as `as_weight` returns it. Of a sequence each step takes one number, and the last number is kept.
        along: a dimension of the prediction: the numbers of a sequence run along it (frames, rows) instead.

    Returns:
        A number, or a tensor (B,) or of any shape that broadcasts to the prediction (B, ...).

    Raises:
        ValueError: `along` is given, and the sequence is not as long as that dimension.
    """
    if callable(weight):
        return weight(step)
    if not isinstance(weight, Sequence):
        return weight.to(step.cond.device, non_blocking=True) if isinstance(weight, torch.Tensor) else weight
    if along is not None:
        return _spread(weight, step.cond, along)
    return weight[min(step.index + step.ahead, len(weight) - 1)]


def _spread(numbers: Sequence[float], like: torch.Tensor, along: int) -> torch.Tensor:
    size = like.shape[along] if -like.ndim <= along < like.ndim else None
    if size != len(numbers):
        raise ValueError(
            f"weight has {len(numbers)} numbers along dimension {along} of predictions of shape {tuple(like.shape)}; "
            "give one for each place there"
        )
    shape = [1] * like.ndim
    shape[along] = size
    return torch.tensor(numbers, dtype=torch.float32).to(like.device, non_blocking=True).reshape(shape)
