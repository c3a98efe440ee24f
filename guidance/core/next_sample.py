"""Where a prediction leads: the sampler's next sample, computed next to the scheduler, whose state is only read.

A prediction p at (x_t, t) implies a pair (x0, eps) with `x_t = alpha_t x0 + sigma_t eps`. The next sample is
`x_s = alpha_s x0 + sigma_s eps` at the next position s of the sampler's grid. For the deterministic first-order
samplers (FlowMatchEuler, EulerDiscrete, DDIM where it goes to the next of its own times, see `repeats`) that is exactly
what their `step` computes. The others relate to it so:

- DDPM, ancestral and SDE samplers: it is their move without fresh noise, to the level that the network expects at s.
  (The posterior mean alone would lie below that level.)
- DPMSolverMultistep, UniPC, DEIS, LMS: it is their first-order step; theirs adds a term made of earlier predictions.
- Heun, FlowMatchHeun: their grid has each inner level twice. The first evaluation of a level is the second half of a
  step, which averages two slopes and starts from a sample that the scheduler keeps: that sum is computed exactly. The
  second one only predicts where to evaluate next, and has no next sample here.
"""

from collections.abc import Mapping

import torch

from .bounds import bounded, is_any, keeps_noise
from .combine import widened
from .levels import Level, convention
from .position import BETWEEN, TWICE
from .protocols import Scheduler
from .step import Step


# Those whose next sample, without noise, is the one computed here.
_FIRST_ORDER = ("FlowMatchEulerDiscreteScheduler", "EulerDiscreteScheduler")
_STAGED = (*BETWEEN, "PNDMScheduler", "DPMSolverSinglestepScheduler")


def has_next(step: Step) -> bool:
    """Whether `step` has a next sample at which the network is defined. It does not wait for the device.

    Not the last position of the grid, whose next is the clean sample; not a step off the grid; not the evaluation of a
    Heun sampler that only predicts.

    Raises:
        ValueError: a sampler whose stages have no next sample in this sense.
    """
    scheduler, index = step.denoiser.scheduler, step.grid_index
    if is_any(scheduler, _STAGED):
        raise ValueError(
            f"{type(scheduler).__name__} evaluates the network at stages within a step, which have no next sample. "
            "Take another sampler before attaching, for example "
            "pipe.scheduler = diffusers.DDIMScheduler.from_config(pipe.scheduler.config); EulerDiscreteScheduler, "
            "DPMSolverMultistepScheduler, UniPCMultistepScheduler and HeunDiscreteScheduler do too"
        )
    if index is None or index + 1 >= len(scheduler.timesteps):
        return False
    return not is_any(scheduler, TWICE) or (not scheduler.state_in_first_order and index == scheduler.step_index)


def next_index(step: Step) -> int:
    """The next position of the sampler's grid. Raises ValueError for a step off the grid, see `has_next`."""
    if step.grid_index is None:
        raise ValueError("a step off the sampler's grid has no next sample; ask has_next(step) first")
    return step.grid_index + 1


def next_level(step: Step) -> Level:
    """(alpha, sigma) at the next position of the sampler's grid, 0-d float32. Raises as `next_index`."""
    index = next_index(step)
    return step.denoiser.level(step.denoiser.grid(index), index)


def end_level(step: Step) -> Level:
    """(alpha, sigma), 0-d float32, where the sampler's step ends: as `next_level`, and after the last step the level of
    the sampler's result.

    Raises:
        ValueError: a step off the grid, or a sampler that evaluates the network twice in a step.
    """
    scheduler = step.denoiser.scheduler
    if step.grid_index is None or getattr(scheduler, "order", 1) != 1 or is_any(scheduler, _STAGED):
        raise ValueError(
            f"the level where a step of {type(scheduler).__name__} ends is known only on its grid, and for samplers "
            "that evaluate the network once in a step; take such a sampler, for example "
            "diffusers.DDIMScheduler or FlowMatchEulerDiscreteScheduler"
        )
    return step.denoiser.level(step.timestep, step.grid_index + 1)


def next_step(step: Step, prediction: torch.Tensor) -> Step:
    """The step at the sampler's next sample (B, ...), if it used `prediction` (B, ...). See `has_next`."""
    scheduler = step.denoiser.scheduler
    x0, eps = implied_pair(step, prediction)
    if is_any(scheduler, TWICE):
        kept, slope = widened(scheduler.sample), widened(scheduler.prev_derivative)
        # Its slope of a flow is the velocity, eps - x0, and otherwise eps.
        slope = (slope + (eps - x0 if convention(scheduler) == "flow" else eps)) / 2
        sample = kept + scheduler.dt * slope
    else:
        alpha, sigma = next_level(step)
        sample = alpha * x0 + sigma * eps
    return step.at(sample.to(step.sample.dtype), index=next_index(step))


def implied_pair(step: Step, prediction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(x0, eps), both (B, ...) in float32, that `prediction` implies, with x0 bounded where the scheduler does."""
    scheduler = step.denoiser.scheduler
    x0 = step.to_x0(prediction)
    inside = x0 if "bounds" in step.handled else bounded(scheduler, x0)
    if inside is x0 or keeps_noise(scheduler):
        return inside, step.to_eps(prediction)
    return inside, (widened(step.sample) - step.alpha * inside) / step.sigma


def training_target(x0: torch.Tensor, eps: torch.Tensor, level: Level, prediction_type: str) -> torch.Tensor:
    """What training asks of the network at `alpha * x0 + sigma * eps`, (B, ...), in its own parameterization."""
    if prediction_type == "epsilon":
        return eps
    if prediction_type == "sample":
        return x0
    if prediction_type == "flow_prediction":
        return eps - x0
    alpha, sigma = level
    return (alpha * eps - sigma * x0) / (alpha * alpha + sigma * sigma).sqrt()


def next_target(step: Step, prediction: torch.Tensor) -> torch.Tensor:
    """What training asks of the network at the next sample, (B, ...) in float32, given the pair of `prediction`.

    For eps, x0 and velocity it is the prediction itself; v depends on the level, so it is turned to the next one.
    """
    if step.prediction_type != "v_prediction" or is_any(step.denoiser.scheduler, TWICE):
        return widened(prediction)  # a Heun sampler stays at its level
    return training_target(*implied_pair(step, prediction), next_level(step), step.prediction_type)


def step_error(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """(B,) mean squared difference of (B, ...) and (B, ...), in float32 (float64 for float64): the error of a step.

    `prediction` is the network's (guided) prediction at the next sample, `target` the one that training asks for there:
    the training loss of the pair that the sampler's step was made of.
    """
    return (widened(prediction) - widened(target)).flatten(1).square().mean(1)


def repeats(scheduler: Scheduler, arguments: Mapping) -> bool:
    """Whether the sampler's next sample is exactly that of `next_step`: first order, and nothing random.

    Args:
        arguments: of the scheduler's `step`, by name.
    """
    config = scheduler.config
    if config.get("stochastic_sampling", False) or any(arguments.get(name) for name in ("eta", "s_churn")):
        return False
    if not keeps_noise(scheduler):  # not DDIM
        return is_any(scheduler, _FIRST_ORDER)
    if arguments.get("use_clipped_model_output"):
        return False
    # It goes down by T // N of its T times, which is to the next of its grid in these cases only.
    spacing, times = config.timestep_spacing, config.num_train_timesteps
    return spacing == "leading" or (spacing == "trailing" and times % scheduler.num_inference_steps == 0)
