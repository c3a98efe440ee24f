"""alpha and sigma of a scheduler's sample, `sample = alpha * x0 + sigma * eps`, without a device synchronisation.

Schedulers keep samples in a few conventions. Each is named once here; the scheduler's own tables give the numbers, read
at the scheduler's own index, because timesteps are rounded by some of them (Karras grids, flow UniPC).
"""

import math
import weakref
from collections.abc import Callable

import torch

from .protocols import Scheduler


# What `sample` is under each scheduler, by class name, so that no scheduler has to be imported; subclasses count too.
_CONVENTIONS = {
    "preserving": (
        "DDPMScheduler",
        "DDIMScheduler",
        "DDPMParallelScheduler",
        "DDIMParallelScheduler",
        "LCMScheduler",
        "PNDMScheduler",
        "CogVideoXDDIMScheduler",
        "CogVideoXDPMScheduler",
    ),
    "exploding": (
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "HeunDiscreteScheduler",
        "LMSDiscreteScheduler",
    ),
    "solver": (
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "UniPCMultistepScheduler",
        "DEISMultistepScheduler",
    ),
    "interpolated": ("KDPM2DiscreteScheduler",),  # exploding, with the second stages between two levels of the grid
    "arctangent": ("CosineDPMSolverMultistepScheduler",),  # exploding, with 2 atan(sigma) / pi as the timestep
    "flow": ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"),
}
_CONVENTION_OF = {name: convention for convention, names in _CONVENTIONS.items() for name in names}

_EXPLODING = ("exploding", "interpolated", "arctangent")  # sample = x0 + sigma * eps

_MOVED: weakref.WeakKeyDictionary[Scheduler, tuple[torch.Tensor, torch.Tensor]] = weakref.WeakKeyDictionary()

Level = tuple[torch.Tensor, torch.Tensor]


def convention(scheduler: Scheduler) -> str:
    """How the scheduler keeps its samples: "preserving", "exploding", "interpolated", "arctangent", "solver" or "flow".

    Raises:
        ValueError: the scheduler is not understood; the message lists those that are and how to add one.
    """
    for cls in type(scheduler).__mro__:
        if cls.__name__ in _CONVENTION_OF:
            return _CONVENTION_OF[cls.__name__]
    raise ValueError(
        f"the noise level of {type(scheduler).__name__} is not understood, so a callback that needs alpha or sigma "
        f"cannot run with it. Understood are {', '.join(sorted(_CONVENTION_OF))}. If yours keeps its samples as one of "
        f"these does, call diffusion_guidance.core.levels.register_scheduler({type(scheduler).__name__!r}, like=NAME)."
    )


def is_understood(scheduler: Scheduler) -> bool:
    """Whether the noise levels of the scheduler's samples are known."""
    return any(cls.__name__ in _CONVENTION_OF for cls in type(scheduler).__mro__)


def register_scheduler(name: str, like: str) -> None:
    """Treat the scheduler class `name` as the one called `like`.

    Raises:
        ValueError: `like` is not understood itself.
    """
    if like not in _CONVENTION_OF:
        raise ValueError(f"{like} is not understood; choose one of {', '.join(sorted(_CONVENTION_OF))}")
    _CONVENTION_OF[name] = _CONVENTION_OF[like]


def level_at_index(scheduler: Scheduler, index: int) -> Level:
    """(alpha, sigma) at position `index` of the sampler's grid; one past the last position is the clean end.

    Returns:
        Two 0-d float32 tensors, on the device of the scheduler's tables (a 0-d CPU tensor combines with any device).
    """
    kind = convention(scheduler)
    if kind == "preserving":
        if index < len(scheduler.timesteps):
            return level_at_timestep(scheduler, scheduler.timesteps[index])
        abar = torch.as_tensor(getattr(scheduler, "final_alpha_cumprod", 1.0)).float()
        return abar.sqrt(), (1 - abar).sqrt()
    grid = scheduler.sigmas_interpol if kind == "interpolated" and index % 2 else scheduler.sigmas
    sigma = grid[index].float()
    if kind in _EXPLODING:
        return torch.ones_like(sigma), sigma
    if kind == "flow":
        return 1 - sigma, sigma
    return scheduler._sigma_to_alpha_sigma_t(sigma)


def level_at_timestep(scheduler: Scheduler, timestep: torch.Tensor | float) -> Level:
    """(alpha, sigma) at any training time, on or off the sampler's grid, interpolated as `EulerDiscreteScheduler` does.

    Exact for the variance-preserving and the plain flow schedulers; where a scheduler warps its grid (Karras, flow
    solvers) use `level_at_index` for points of the grid.
    """
    kind = convention(scheduler)
    timestep = torch.as_tensor(timestep)
    if kind == "flow" or getattr(scheduler.config, "use_flow_sigmas", False):
        sigma = timestep.float() / scheduler.config.num_train_timesteps
        return 1 - sigma, sigma
    if kind == "arctangent":
        sigma = (timestep.float() * (math.pi / 2)).tan()
        return torch.ones_like(sigma), sigma
    table = _table(scheduler, timestep.device)
    if not timestep.is_floating_point():
        abar = _pick(table, timestep)
        if kind not in _EXPLODING:
            return abar.sqrt(), (1 - abar).sqrt()
        ratio = ((1 - abar) / abar).sqrt()
    else:
        low = timestep.floor().long().clamp(0, len(table) - 2)
        start, end = (((1 - abar) / abar).sqrt() for abar in (_pick(table, low), _pick(table, low + 1)))
        ratio = torch.lerp(start, end, (timestep - low).float())
    if kind in _EXPLODING:
        return torch.ones_like(ratio), ratio
    return torch.rsqrt(1 + ratio.square()), ratio * torch.rsqrt(1 + ratio.square())


def sampler_index(scheduler: Scheduler, timestep: torch.Tensor | float) -> int | None:
    """Position of the coming step on the sampler's grid, as its `step` will see it; call before `step` runs.

    None for schedulers that keep no index of their own (DDPM, DDIM).
    """
    index = getattr(scheduler, "step_index", None)
    if index is None and hasattr(scheduler, "_init_step_index"):
        scheduler._init_step_index(timestep)  # what `step` would do first; the one look-up of a run, not a second one
        index = scheduler.step_index
    return index


def network_input(scheduler: Scheduler, sample: torch.Tensor, level: Callable[[], Level]) -> torch.Tensor:
    """What the network is given for `sample` (B, ...): variance-exploding samplers bring it to unit variance."""
    kind = convention(scheduler)
    if kind not in _EXPLODING:
        return sample
    norm = (level()[1] ** 2 + 1) ** 0.5
    return sample * (1 / norm) if kind == "arctangent" else sample / norm  # as they round


def _table(scheduler: Scheduler, device: torch.device) -> torch.Tensor:
    """The scheduler's alphas_cumprod on `device`, moved there once."""
    source = scheduler.alphas_cumprod
    moved = _MOVED.get(scheduler)
    if moved is None or moved[0] is not source or moved[1].device != device:
        moved = _MOVED[scheduler] = (source, source.float().to(device, non_blocking=True))
    return moved[1]


def _pick(table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    # index_select, since indexing with a 0-d device tensor would read it back to the host.
    return table.index_select(0, index.reshape(-1)).reshape(index.shape)
