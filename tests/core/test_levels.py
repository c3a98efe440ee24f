import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    HeunDiscreteScheduler,
    IPNDMScheduler,
    UniPCMultistepScheduler,
)

from diffusion_guidance import CFG, GuidanceInterval, Trace, attach
from diffusion_guidance.core.levels import convention, level_at_index, level_at_timestep, register_scheduler
from diffusion_guidance.core.parameterization import to_x0

from ..nosync import NoSynchronisation
from ..tiny import draw_dit, tiny_dit


CASES = [
    DDPMScheduler(clip_sample=False),
    DDIMScheduler(clip_sample=False),
    DDIMScheduler(clip_sample=False, prediction_type="v_prediction", rescale_betas_zero_snr=True),
    EulerDiscreteScheduler(),
    EulerDiscreteScheduler(prediction_type="v_prediction", use_karras_sigmas=True),
    HeunDiscreteScheduler(),
    DPMSolverMultistepScheduler(),
    DPMSolverMultistepScheduler(prediction_type="v_prediction", use_karras_sigmas=True),
    DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
    UniPCMultistepScheduler(),
    UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True),
    FlowMatchEulerDiscreteScheduler(shift=3.0),
    FlowMatchHeunDiscreteScheduler(),
]


def name(scheduler) -> str:
    return f"{type(scheduler).__name__}-{scheduler.config.get('prediction_type', 'flow')}"


@pytest.mark.parametrize("scheduler", CASES, ids=name)
def test_x0_is_the_schedulers_own(scheduler):
    kind = scheduler.config.get("prediction_type", "flow_prediction")
    generator = torch.Generator().manual_seed(0)
    scheduler.set_timesteps(4)
    sample = torch.randn(1, 2, 4, 4, generator=generator)
    compared = 0
    for t in scheduler.timesteps:
        output = torch.randn(1, 2, 4, 4, generator=generator)
        if getattr(scheduler, "step_index", None) is None and hasattr(scheduler, "_init_step_index"):
            scheduler._init_step_index(t)
        index = getattr(scheduler, "step_index", None)
        alpha, sigma = level_at_timestep(scheduler, t) if index is None else level_at_index(scheduler, index)
        ours = to_x0(output, sample, alpha, sigma, kind)
        if hasattr(scheduler, "convert_model_output"):
            theirs = scheduler.convert_model_output(output, sample=sample)
            result = scheduler.step(output, t, sample)
        else:
            result = scheduler.step(output, t, sample)
            theirs = getattr(result, "pred_original_sample", None)
        if theirs is not None:  # flow Euler and Heun do not tell theirs
            torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=2e-5)
            compared += 1
        elif isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
            end = scheduler.sigmas[scheduler.step_index]
            torch.testing.assert_close(result.prev_sample, (1 - end) * ours + end * (ours + output))
            compared += 1
        else:
            compared += torch.isfinite(ours).all().item()
        sample = result.prev_sample
    assert compared == len(scheduler.timesteps)


@pytest.mark.parametrize(
    "scheduler", [DDIMScheduler(), EulerDiscreteScheduler(), DPMSolverMultistepScheduler(), UniPCMultistepScheduler()]
)
def test_the_level_of_a_timestep_is_that_of_its_place_on_the_grid(scheduler):
    scheduler.set_timesteps(5)
    for index, t in enumerate(scheduler.timesteps):
        for on, off in zip(level_at_index(scheduler, index), level_at_timestep(scheduler, t), strict=True):
            torch.testing.assert_close(on.float(), off.float(), atol=1e-4, rtol=1e-3)


def test_the_end_of_the_grid_is_clean():
    for scheduler in (DDPMScheduler(), DDIMScheduler(), EulerDiscreteScheduler(), FlowMatchEulerDiscreteScheduler()):
        scheduler.set_timesteps(5)
        alpha, sigma = level_at_index(scheduler, 5)
        assert alpha == 1 and sigma == 0
    kept = DDIMScheduler(set_alpha_to_one=False)
    kept.set_timesteps(5)
    assert level_at_index(kept, 5)[1] > 0


def test_an_unknown_scheduler_is_an_error_only_when_a_callback_asks():
    pipe = tiny_dit(scheduler=DDIMInverseScheduler())
    with attach(pipe, [CFG(4.0), trace := Trace()]):  # an observer does without
        draw_dit(pipe)
    assert "sigma" not in trace.to_dict()
    with (
        pytest.raises(ValueError, match=r"DDIMInverseScheduler is not understood.*register_scheduler"),
        attach(pipe, GuidanceInterval()),
    ):
        draw_dit(pipe)


def test_a_scheduler_can_be_registered():
    class MyScheduler(IPNDMScheduler):
        pass

    with pytest.raises(ValueError, match="NoSuchScheduler is not understood"):
        register_scheduler("MyScheduler", like="NoSuchScheduler")
    register_scheduler("MyScheduler", like="DDIMScheduler")
    assert convention(MyScheduler()) == convention(DDIMScheduler())


def test_reading_a_level_does_not_synchronise():
    for scheduler in (DDIMScheduler(), EulerDiscreteScheduler(), UniPCMultistepScheduler()):
        scheduler.set_timesteps(5)
        with NoSynchronisation():
            level_at_index(scheduler, 2)
            level_at_timestep(scheduler, scheduler.timesteps[2])
