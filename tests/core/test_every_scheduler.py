"""Every scheduler that diffusers ships: its levels are known and agree with its algebra, or it says here why not."""

import copy
import inspect

import diffusers
import diffusers.schedulers
import pytest
import torch

from diffusion_guidance.core.levels import (
    convention,
    is_understood,
    level_at_index,
    level_at_timestep,
    network_input,
    prediction_type,
    sampler_index,
)
from diffusion_guidance.core.parameterization import PREDICTION_TYPES, to_x0
from diffusion_guidance.core.position import step_number


TOKENS = "samples tokens, which have no noise level"
ALONE = "its only pipelines combine no predictions"
INVERTS = "runs from the sample to the noise, for inversion"
REASONS = {
    "AmusedScheduler": TOKENS,
    "BlockRefinementScheduler": TOKENS,
    "CMStochasticIterativeScheduler": ALONE,
    "ConsistencyDecoderScheduler": "decodes latents, " + ALONE,
    "DDIMInverseScheduler": INVERTS,
    "DPMSolverMultistepInverseScheduler": INVERTS,
    "DiscreteDDIMScheduler": TOKENS,
    "EntropyBoundScheduler": TOKENS,
    "HeliosDMDScheduler": "has levels within each stage of a pyramid",
    "HeliosScheduler": "has levels within each stage of a pyramid",
    "KarrasVeScheduler": ALONE,
    "MiniMaxH3Scheduler": "steps the negative velocity at times 1 - sigma, for a pipeline of its own",
    "PiflowScheduler": "steps a policy instead of a prediction",
    "RFD4ProteinaScheduler": "samples structures of proteins",
    "RePaintScheduler": "goes forward and back in time; " + ALONE,
    "SCMScheduler": ALONE,
    "ScoreSdeVeScheduler": ALONE,
    "ScoreSdeVpScheduler": ALONE,
    "VQDiffusionScheduler": TOKENS,
}


def classes() -> list[type]:
    found = {name: getattr(diffusers.schedulers, name) for name in dir(diffusers.schedulers)}
    mixin = diffusers.SchedulerMixin
    return [cls for cls in found.values() if inspect.isclass(cls) and issubclass(cls, mixin) and cls is not mixin]


KNOWN = [cls for cls in classes() if cls.__name__ not in REASONS]


def test_what_is_not_known_has_a_reason():
    wrong = {cls.__name__ for cls in classes() if is_understood(cls.__new__(cls)) != (cls.__name__ not in REASONS)}
    assert not wrong and len(KNOWN) >= 27


def made(cls: type):
    """The scheduler with four steps, and without what changes its estimate."""
    accepted = inspect.signature(cls.__init__).parameters
    scheduler = cls(**{name: False for name in ("clip_sample", "thresholding") if name in accepted})
    scheduler.set_timesteps(4)
    return scheduler


def randn(seed: int) -> torch.Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("cls", KNOWN, ids=lambda cls: cls.__name__)
def test_levels_are_those_at_which_the_scheduler_adds_noise(cls):
    scheduler, x0, eps = made(cls), randn(1), randn(2)
    apart = 2 if convention(scheduler) == "interpolated" else 1  # nothing is noised to a second stage
    for position in range(0, len(scheduler.timesteps), apart):
        level, time = level_at_index(scheduler, position), scheduler.timesteps[position]
        if hasattr(scheduler, "add_noise"):
            theirs = scheduler.add_noise(x0, eps, time.expand(1))
        elif hasattr(scheduler, "scale_noise"):
            theirs = copy.deepcopy(scheduler).scale_noise(x0, time.expand(1), eps)  # the first call sets the position
        else:
            assert cls.__name__ in ("LTXEulerAncestralRFScheduler", "IPNDMScheduler")
            break
        torch.testing.assert_close(level[0] * x0 + level[1] * eps, theirs, atol=1e-4, rtol=2e-3)
        torch.testing.assert_close(level_at_timestep(scheduler, time), level, atol=1e-3, rtol=2e-3)
    clean = convention(scheduler) == "cosine"  # its grid holds the clean end too
    assert [step_number(scheduler, index) for index in (0, len(scheduler.timesteps) - 1 - clean)] == [0, 3]


@pytest.mark.parametrize("cls", KNOWN, ids=lambda cls: cls.__name__)
def test_the_estimate_and_the_networks_input_are_the_schedulers_own(cls):
    scheduler = made(cls)
    sample, compared, space = randn(1), 0, prediction_type(scheduler)
    for position, time in enumerate(scheduler.timesteps[: 4 if convention(scheduler) == "cosine" else None]):
        assert sampler_index(scheduler, time) in (None, position)
        level, output = level_at_index(scheduler, position), randn(position + 2)
        if hasattr(scheduler, "scale_model_input"):
            theirs = scheduler.scale_model_input(sample, time)
            torch.testing.assert_close(network_input(scheduler, sample, lambda level=level: level), theirs)
        theirs, following = stepped(scheduler, output, time, sample, position)
        if space not in PREDICTION_TYPES:
            with pytest.raises(ValueError, match="unknown prediction type 'EDM-preconditioned'"):
                to_x0(output, sample, *level, space)
        elif theirs is not None:
            torch.testing.assert_close(to_x0(output, sample, *level, space), theirs, atol=1e-4, rtol=1e-4)
            compared += 1
        sample = following
    shows_none = ("DEIS", "EDM", "LCM", "PNDM", "TCD", "DDPMWuerstchen")  # an estimate; see the test above
    assert compared >= 4 or cls.__name__.startswith(shows_none)


def stepped(scheduler, output, time, sample, position: int) -> tuple[torch.Tensor | None, torch.Tensor]:
    """The scheduler's own estimate, where it shows one or writes it in a line, and the next sample."""
    estimate = None
    if hasattr(scheduler, "convert_model_output") and scheduler.config.get("algorithm_type") != "deis":
        estimate = scheduler.convert_model_output(output, sample=sample)
    if "timestep_back" in inspect.signature(scheduler.step).parameters:
        result = scheduler.step(output, None, time, None, sample, return_dict=False)
        return result[1], result[0]
    result = scheduler.step(output, time.expand(1) if convention(scheduler) == "cosine" else time, sample)
    if estimate is None:
        estimate = getattr(result, "pred_original_sample", None)
    if estimate is None and convention(scheduler) == "flow":
        estimate = sample - scheduler.sigmas[position] * output
    elif estimate is None and convention(scheduler) == "circle":
        estimate = scheduler.alphas[position] * sample - scheduler.betas[position] * output
    return estimate, result.prev_sample
