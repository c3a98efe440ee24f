"""Where a step lies on the sampler's grid, and which of the user's steps that is; nothing here waits for the device.

Some samplers evaluate the network more than once a step, so their grid has more positions than the user asked steps
for. Schedules and windows count the user's steps; noise levels are read at positions of the grid.
"""

import functools

import torch

from .protocols import Scheduler


# Their grid names each inner level twice: the end of one step and the beginning of the next are evaluated apart.
TWICE = ("HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
# Their grid has a level of its own between the two ends of each step.
BETWEEN = ("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler")
_RUNGE_KUTTA = 12  # evaluations of the first three steps of PNDM, four each


def place(grid: torch.Tensor, timestep: torch.Tensor | float) -> int | None:
    """Position of `timestep` in `grid` (N,), found by where it lies in memory: the timesteps that a loop takes from a
    grid, or from a part of it, are views of it. None for any other."""
    if not isinstance(timestep, torch.Tensor) or timestep.dtype != grid.dtype:
        return None
    if timestep.untyped_storage().data_ptr() != grid.untyped_storage().data_ptr():
        return None
    index, rest = divmod(int(timestep.storage_offset() - grid.storage_offset()), grid.stride(0) or 1)
    return index if rest == 0 and 0 <= index < len(grid) else None


def place_by_value(grid: list[float], timestep: torch.Tensor | float, expected: int) -> int | None:
    """As `place`, by the value of `timestep`, a number or a CPU tensor: at `expected` or after it, else from the
    beginning on. None where the value is not in `grid`, or would have to be read from a device."""
    if isinstance(timestep, torch.Tensor):
        if timestep.device.type != "cpu":
            return None
        timestep = timestep.flatten()[0].item()
    for candidates in (range(expected, len(grid)), range(min(expected, len(grid)))):
        for index in candidates:
            if grid[index] == timestep:
                return index
    return None


def step_number(scheduler: Scheduler, index: int) -> int:
    """Which of the user's steps position `index` of the scheduler's grid is, both counted from the grid's beginning.

    Evaluations at one noise level belong to one step.
    """
    name = _known(type(scheduler))
    if name in TWICE:
        return (index + 1) // 2
    if name in BETWEEN:
        return index // 2
    if name == "PNDMScheduler":
        if scheduler.config.get("skip_prk_steps"):
            return index - (index >= 2)  # the second level is evaluated twice
        return index // 4 if index < _RUNGE_KUTTA else index - _RUNGE_KUTTA + 3
    return index


@functools.cache
def _known(kind: type) -> str | None:
    names = (*TWICE, *BETWEEN, "PNDMScheduler")
    return next((cls.__name__ for cls in kind.__mro__ if cls.__name__ in names), None)
