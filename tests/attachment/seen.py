"""One step of a pipeline as an attachment sees it, by hooks written for the tests alone."""

import functools
import inspect

import torch

from diffusion_guidance.attachment.families import Call, Observed, prediction_of
from diffusion_guidance.core.levels import level_at_index, level_at_timestep, network_input


class Stop(Exception):
    """Raised in place of the scheduler's step that is wanted."""


def seen(pipe, call, step: int = 0) -> Observed:
    """What the pipeline hands its scheduler in `step`, and the calls of all its networks since the step before.

    `call` runs the pipeline; it is stopped there.
    """
    found, calls, undo = [], [], []
    for name, module in pipe.components.items():
        if isinstance(module, torch.nn.Module):
            undo += _watch(name, module, calls)
    scheduler, names, before = pipe.scheduler, _names(pipe.scheduler.step), []
    original = scheduler.step

    @functools.wraps(original)
    def stand_in(*args, **kwargs):
        given = dict(zip(names, args, strict=False)) | kwargs
        if len(before) == step:
            timestep = torch.as_tensor(given["timestep"])
            found.append(Observed(pipe, tuple(calls), given["model_output"], timestep, given["sample"]))
            raise Stop
        before.append(given)
        calls.clear()
        return original(*args, **kwargs)

    scheduler.step = stand_in
    try:
        call()
    except Stop:
        return found[0]
    finally:
        del scheduler.step
        while undo:
            undo.pop()()
    raise AssertionError("the pipeline did not step its scheduler")


def scaling(observed: Observed):
    """How the scheduler has networks see a sample in this step."""
    scheduler, time = observed.pipe.scheduler, observed.timestep
    places = (scheduler.timesteps == time).nonzero()
    index = int(places[0]) if len(places) else None

    def level():
        return level_at_timestep(scheduler, time) if index is None else level_at_index(scheduler, index)

    return lambda sample: network_input(scheduler, sample, level)


def _watch(name: str, module: torch.nn.Module, calls: list) -> list:
    names, entered = _names(module.forward), []

    def before(module, args, kwargs):
        arguments = dict(zip(names, args, strict=False)) | kwargs
        entered.append({key: list(value) if isinstance(value, list) else value for key, value in arguments.items()})

    def after(module, args, kwargs, output):
        calls.append(Call(module, entered.pop(), prediction_of(output), name))

    return [
        module.register_forward_pre_hook(before, with_kwargs=True).remove,
        module.register_forward_hook(after, with_kwargs=True).remove,
    ]


def _names(function) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)
