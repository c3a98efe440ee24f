"""Which arguments of a network hold the sample and the time."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..core.protocols import Pipeline
from .families import Call, Layout, formulas
from .families.layout import layouts
from .families.observed import Output


_TIMES = ("timestep", "timesteps", "t", "time", "temb", "timestep_ratio", "r", "sigma", "noise_labels")


@dataclass(frozen=True)
class SampleArgument:
    """The argument `name` holds `factor` times the sample, up to the relative `residual`."""

    name: str
    layout: Layout
    listed: bool
    factor: float
    residual: float


def sample_argument(call: Call, sample: torch.Tensor) -> SampleArgument | None:
    """The argument of `call` that holds `sample` (B, ...), or a multiple of it, best.

    Where the network is given a time for each token, clean tokens may have been pasted into the sample.
    """
    pasted = any(isinstance(value, torch.Tensor) and value.ndim > 1 for value in _times(call).values())
    found = [
        SampleArgument(name, layout, isinstance(value, list), *_multiple(held, sample, pasted))
        for name, value in call.arguments.items()
        for whole in (stacked(value),)
        if whole is not None and whole.numel()
        for layout in layouts(whole, sample)
        for held in (layout.select(whole, sample),)
        if len(held) % len(sample) == 0
    ]
    found = [each for each in found if each.residual < 1e-2 and abs(each.factor) > 1e-4]
    return min(found, key=lambda each: each.residual, default=None)


def time_argument(call: Call) -> str | None:
    """The argument of `call` that holds the time: by its name."""
    return next(iter(_times(call)), None)


def time_law(given: torch.Tensor, timestep: torch.Tensor, pipe: Pipeline) -> Callable | None:
    """The function of the scheduler's timestep that the time `given` is, for each sample or token; None if unknown.

    Of several within rounding it is the nearest, and of equal ones the most usual.
    """
    near = 8 * torch.finfo(given.dtype).eps if given.is_floating_point() else 1e-6
    given = given.flatten().float().max()  # clean tokens are at time 0
    found: list[tuple[float, int, Callable]] = []
    for law in formulas.TIMES:
        try:
            expected = torch.as_tensor(law(timestep.flatten()[0].float(), pipe)).float()
        except (AttributeError, TypeError):
            continue
        off = abs(float(given - expected)) / max(abs(float(expected)), 1.0)
        if off <= near:
            found.append((off, len(found), law))
    return min(found)[-1] if found else None


def _times(call: Call) -> dict[str, object]:
    values = {name: value for name, value in call.arguments.items() if not isinstance(value, (list, str, type(None)))}
    named = {name: values[name] for name in _TIMES if name in values}
    return named or {name: value for name, value in values.items() if "time" in name}


def stacked(value: object) -> torch.Tensor | None:
    """A value, or a list of tensors of one shape in one, where it can hold samples: in floating point, with a batch."""
    if isinstance(value, list):
        same = all(isinstance(each, torch.Tensor) and each.shape == value[0].shape for each in value)
        value = joined(value) if value and same else None
    return value if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 1 else None


def joined(output: Output) -> torch.Tensor:
    """A prediction in one tensor."""
    return torch.stack(output) if isinstance(output, list) else output


def _multiple(held: torch.Tensor, sample: torch.Tensor, pasted: bool) -> tuple[float, float]:
    """The number with which `sample` is nearest to all that is held, and the relative distance."""
    held = held.unflatten(0, (-1, len(sample)))
    if pasted and (held == sample).double().mean() > 0.1:
        return 1.0, 0.0
    held, sample = held.double(), sample.double()
    factor = float((held * sample).sum() / (sample.square().sum() * len(held)).clamp_min(1e-30))
    distance = float((held - factor * sample).norm() / held.norm().clamp_min(1e-30))
    return factor, distance
