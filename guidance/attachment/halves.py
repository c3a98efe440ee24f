"""Arguments and results of a network for one half of its batch, and for both halves."""

from typing import Any

import torch

from .families import prediction_of


def half_of(value: Any, samples: int, half: int) -> Any:
    """Of everything that lies in a batch of `samples`, at any depth, half 0 or 1; the rest as it is."""
    if isinstance(value, torch.Tensor):
        return value.chunk(2)[half] if value.ndim and len(value) == samples else value
    if isinstance(value, dict):
        return type(value)({name: half_of(each, samples, half) for name, each in value.items()})
    if isinstance(value, list | tuple):
        if len(value) == samples and not any(_is_batch(each, samples) for each in value):
            return value[half * samples // 2 : (half + 1) * samples // 2]
        return type(value)(half_of(each, samples, half) for each in value)
    return value


def twice(value: Any, samples: int) -> Any:
    """Of everything that lies in a batch of half of `samples`, at any depth, that twice; the rest as it is."""
    if isinstance(value, torch.Tensor):
        return torch.cat([value, value]) if value.ndim and 2 * len(value) == samples else value
    if isinstance(value, dict):
        entries = {name: twice(each, samples) for name, each in value.items()}
        return type(value)(**entries) if type(value) is not dict else entries
    if isinstance(value, list | tuple):
        if 2 * len(value) == samples and not any(_is_batch(each, samples // 2) for each in value):
            return value * 2
        return type(value)(twice(each, samples) for each in value)
    return value


def signature(value: object) -> object:
    """What two calls have in common that differ in the values of tensors only; it can be hashed."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype, value.device
    if isinstance(value, dict):
        return tuple((name, signature(each)) for name, each in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(signature, value))
    return value if isinstance(value, str | int | bool | None) else type(value)


def agrees(half: object, whole: object, samples: int, position: int) -> torch.Tensor:
    """0-d bool, not read: whether the prediction in `half` is that part of the one in `whole`, except for rounding."""
    one, both = prediction_of(half), prediction_of(whole)
    one, both = (torch.stack(list(value)) if isinstance(value, list) else value for value in (one, both))
    if 2 * len(one) != len(both):
        return torch.tensor(False)
    other = both.chunk(2)[position].float()
    bound = (1e-5 if both.dtype == torch.float32 else 2e-2) * other.abs().amax()
    return (one.float() - other).abs().amax() <= bound


def _is_batch(value: object, samples: int) -> bool:
    return isinstance(value, torch.Tensor) and value.ndim > 0 and len(value) == samples
