"""What was observed in a step, brought to the host in one read of the device."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from .families import Call, Observed


def on_host(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same values on the host. All that lie on a device are read together: it is waited for once."""
    away = [tensor for tensor in tensors if tensor.device.type != "cpu"]
    if not away:
        return tensors
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in away) else torch.float32
    flat = iter(torch.cat([tensor.detach().flatten().to(dtype) for tensor in away]).cpu().split([*map(_size, away)]))
    return [tensor if tensor.device.type == "cpu" else _as(next(flat), tensor) for tensor in tensors]


def observed_on_host(observed: Observed, calls: list[Call]) -> Observed:
    """`observed` with `calls`, all of its tensors on the host; other arguments of the calls are left out."""
    shells = [replace(call, arguments=dict(_tensors(call.arguments))) for call in calls]
    found: list[object] = []
    for value in (observed.output, observed.timestep, observed.sample, *_values(shells)):
        found += value if isinstance(value, list) else [value]
    values = iter(on_host([torch.as_tensor(value) for value in found]))

    def take(value: object) -> Any:
        return [next(values) for _ in value] if isinstance(value, list) else next(values)

    output, timestep, sample = take(observed.output), take(observed.timestep), take(observed.sample)
    copies = []
    for call in shells:
        arguments = {name: take(value) for name, value in call.arguments.items()}
        copies.append(replace(call, arguments=arguments, output=take(call.output)))
    return Observed(observed.pipe, tuple(copies), output, timestep, sample)


def _values(calls: list[Call]) -> Iterator[object]:
    for call in calls:
        yield from call.arguments.values()
        yield call.output


def _tensors(arguments: dict) -> Iterator[tuple[str, object]]:
    """The arguments that may hold a sample or a time."""
    for name, value in arguments.items():
        listed = isinstance(value, (list, tuple)) and value and all(isinstance(each, torch.Tensor) for each in value)
        if listed and len({each.shape for each in value}) == 1:
            yield name, list(value)
        elif isinstance(value, (torch.Tensor, int, float)) and not isinstance(value, bool):
            yield name, value


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel()


def _as(flat: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return flat.reshape(like.shape).to(like.dtype)
