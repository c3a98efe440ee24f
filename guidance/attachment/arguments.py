"""Arguments of a network, copied and compared."""

from typing import Any

import torch


def copied(value: Any) -> Any:
    """`value` with lists and dictionaries copied, at any depth, since networks and pipelines change those that they
    hand over; tensors are the same."""
    if isinstance(value, list):
        return [copied(entry) for entry in value]
    if isinstance(value, dict):
        return {key: copied(entry) for key, entry in value.items()}
    return value


def same(one: object, other: object) -> bool:
    """Whether two calls' arguments are equal to rounding. Waits for the device, once, where tensors are not the very
    same."""
    unlike: list[torch.Tensor] = []
    if not _alike(one, other, unlike):
        return False
    return not unlike or not bool(torch.stack([each.to(unlike[0].device) for each in unlike]).any())


def _alike(one: object, other: object, unlike: list[torch.Tensor]) -> bool:
    if one is other:
        return True
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
            return False
        unlike.append(_unlike(one, other))
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[name], unlike) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(lambda a, b: _alike(a, b, unlike), one, other))
    return type(one) is type(other) and bool(one == other)


def _unlike(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    if not one.is_floating_point():
        return (one != other).any()
    near = 4 * torch.finfo(one.dtype).eps * one.abs().amax()
    return ~((one - other).abs().amax() <= near)


def versions(arguments: Any) -> list[tuple[torch.Tensor, int]]:
    """All tensors in `arguments`, and how often each was changed in place."""
    if isinstance(arguments, torch.Tensor):
        return [] if arguments.is_inference() else [(arguments, arguments._version)]
    if isinstance(arguments, dict):
        arguments = arguments.values()
    elif not isinstance(arguments, list | tuple):
        return []
    return [version for entry in arguments for version in versions(entry)]
