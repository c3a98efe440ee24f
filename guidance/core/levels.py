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
        *("DDPMScheduler", "DDIMScheduler", "DDPMParallelScheduler", "DDIMParallelScheduler", "LCMScheduler"),
        *("PNDMScheduler", "CogVideoXDDIMScheduler", "CogVideoXDPMScheduler", "TCDScheduler", "UnCLIPScheduler"),
    ),
    "exploding": (
        *("EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "LMSDiscreteScheduler"),
    ),
    "solver": (
        *("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler"),
        *("DEISMultistepScheduler", "SASolverScheduler"),
    ),
    # exploding, with the second stages between two levels of the grid
    "interpolated": ("KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DPMSolverSDEScheduler"),
    "preconditioned": ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"),  # exploding, log(sigma) / 4 as timestep
    "arctangent": ("CosineDPMSolverMultistepScheduler",),  # exploding, with 2 atan(sigma) / pi as the timestep
    "flow": (
        *("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler", "FlowMatchLCMScheduler"),
        *("FlowMapEulerDiscreteScheduler", "LTXEulerAncestralRFScheduler"),
    ),
    "cosine": ("DDPMWuerstchenScheduler",),  # preserving, from the timestep in [0, 1] alone
    "circle": ("IPNDMScheduler",),  # preserving, with 2 / pi of the angle as the timestep
}
_CONVENTION_OF = {name: convention for convention, names in _CONVENTIONS.items() for name in names}

_EXPLODING = ("exploding", "interpolated", "arctangent", "preconditioned")  # sample = x0 + sigma * eps

_MOVED: weakref.WeakKeyDictionary[Scheduler, tuple[torch.Tensor, torch.Tensor]] = weakref.WeakKeyDictionary()

Level = tuple[torch.Tensor, torch.Tensor]


def convention(scheduler: Scheduler) -> str:
    """How the scheduler keeps its samples, a key of `_CONVENTIONS`.

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


def scales_input(scheduler: Scheduler) -> bool:
    """Whether `network_input` is another than the sample, as far as the scheduler is understood."""
    return is_understood(scheduler) and convention(scheduler) in _EXPLODING


def register_scheduler(name: str, like: str) -> None:
    """Treat the scheduler class `name` as the one called `like`.

    Raises:
        ValueError: `like` is not understood itself.
    """
    if like not in _CONVENTION_OF:
        raise ValueError(f"{like} is not understood; choose one of {', '.join(sorted(_CONVENTION_OF))}")
    _CONVENTION_OF[name] = _CONVENTION_OF[like]


def prediction_type(scheduler: Scheduler) -> str:
    """The space of what networks predict under the scheduler, as `Step.prediction_type` names it.

    "EDM-preconditioned" outputs are none of the known ones: `to_x0` refuses them.
    """
    unsaid = {"circle": "v_prediction", "cosine": "epsilon"}.get(
        convention(scheduler) if is_understood(scheduler) else ""
    )
    named = scheduler.config.get("prediction_type") or unsaid or "flow_prediction"
    if hasattr(scheduler, "precondition_outputs") and (named != "v_prediction" or scheduler.config.sigma_data != 1):
        return "EDM-preconditioned"
    return named


def level_at_index(scheduler: Scheduler, index: int) -> Level:
    """(alpha, sigma) at position `index` of the sampler's grid; one past the last position is the clean end.

    Returns:
        Two 0-d float32 tensors, on the device of the scheduler's tables (a 0-d CPU tensor combines with any device).
    """
    kind = convention(scheduler)
    if kind in ("preserving", "cosine", "circle"):
        if index < len(scheduler.timesteps):
            return level_at_timestep(scheduler, scheduler.timesteps[index])
        abar = torch.as_tensor(getattr(scheduler, "final_alpha_cumprod", 1.0)).float()
        return abar.sqrt(), (1 - abar).sqrt()
    between = kind == "interpolated" and index % 2
    sigma = (_between(scheduler, index) if between else scheduler.sigmas[index]).float()
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
    if kind in ("arctangent", "preconditioned"):
        sigma = (timestep.float() * (math.pi / 2)).tan() if kind == "arctangent" else (4 * timestep.float()).exp()
        return torch.ones_like(sigma), sigma
    if kind == "circle":
        angle = timestep.float() * (math.pi / 2)
        return angle.cos(), angle.sin()
    if kind == "cosine":
        abar = scheduler._alpha_cumprod(timestep.float().flatten()[0], timestep.device)[0]
        return abar.sqrt(), (1 - abar).sqrt()
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
    if not scales_input(scheduler):
        return sample
    rounded = kind in ("arctangent", "preconditioned")
    norm = (level()[1] ** 2 + (scheduler.config.sigma_data**2 if rounded else 1)) ** 0.5
    return sample * (1 / norm) if rounded else sample / norm  # as they round


def _between(scheduler: Scheduler, index: int) -> torch.Tensor:
    """sigma of the second stage, at position `index`, of a step that began at the position before."""
    if hasattr(scheduler, "sigmas_interpol"):
        return scheduler.sigmas_interpol[index - hasattr(scheduler, "sigmas_down")]  # the ancestral one has it earlier
    return (scheduler.sigmas[index - 1] * scheduler.sigmas[index]).sqrt()


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
