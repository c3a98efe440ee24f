import diffusers
import pytest
import torch

from diffusion_guidance.core.bounds import bounded, keeps_noise, unbounded


BOUNDING = [
    diffusers.DDPMScheduler(),
    diffusers.DDPMScheduler(thresholding=True, sample_max_value=3.0),
    diffusers.DDPMParallelScheduler(clip_sample_range=0.5),
    diffusers.DDIMScheduler(),
    diffusers.DDIMScheduler(thresholding=True, sample_max_value=3.0),
]


def estimate(scheduler, x0: torch.Tensor) -> torch.Tensor:
    """The estimate that the scheduler itself uses for a prediction of x0."""
    scheduler.register_to_config(prediction_type="sample")
    scheduler.set_timesteps(10)
    return scheduler.step(x0, scheduler.timesteps[3], torch.zeros_like(x0)).pred_original_sample


@pytest.mark.parametrize("scheduler", BOUNDING, ids=lambda each: type(each).__name__)
def test_the_bound_is_the_schedulers_own_and_is_off_within_the_block_only(scheduler):
    x0 = 3 * torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    inside = estimate(scheduler, x0)
    assert torch.equal(bounded(scheduler, x0), inside) and not torch.equal(inside, x0)
    before = dict(scheduler.config)
    with unbounded(scheduler):
        assert torch.equal(scheduler.step(x0, scheduler.timesteps[3], x0).pred_original_sample, x0)
        assert bounded(scheduler, x0) is x0
    assert dict(scheduler.config) == before
    assert torch.equal(estimate(scheduler, x0), inside)


def test_a_setting_that_a_scheduler_ignores_is_ignored():
    x0 = torch.full((1, 1), 9.0)
    scheduler = diffusers.EulerDiscreteScheduler()
    assert bounded(scheduler, x0) is x0 and not keeps_noise(scheduler)
    assert bounded(diffusers.DDPMScheduler(clip_sample=False), x0) is x0


def test_ddim_keeps_the_noise_of_the_unbounded_estimate():
    scheduler = diffusers.DDIMScheduler()
    assert keeps_noise(scheduler) and not keeps_noise(diffusers.DDPMScheduler())


def test_the_settings_come_back_after_an_error():
    scheduler = diffusers.DDPMScheduler()
    with pytest.raises(KeyError), unbounded(scheduler):
        raise KeyError
    assert scheduler.config.clip_sample
