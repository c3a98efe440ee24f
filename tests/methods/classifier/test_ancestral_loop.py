"""EluCD's DDPM loop as its authors order it, written out here: clip the estimate, take the mean, then shift it."""

import itertools
import math

import pytest
import torch
from diffusers import DDPMScheduler

from diffusion_guidance import ClassifierGuidance, Reading, Strength, attach
from diffusion_guidance.methods.classifier.schedules import ancestral, learned_variance

from ...pipelines import cases
from .test_guidance import classifier, digits


def authors_loop(scheduler, predict, gradient, noise, generator, gamma=0.3, learned=None, scale=1.0) -> torch.Tensor:
    """`p_sample` of the authors' code over the scheduler's timesteps, in float64.

    `predict(x, t)` gives eps, `learned(x, t)` the network's variance in [-1, 1] or None, `gradient(x0)` that of the
    log-probability.
    """
    times = scheduler.timesteps.tolist()
    abars = [scheduler.alphas_cumprod[t].double() for t in times] + [torch.tensor(1.0, dtype=torch.float64)]
    posterior = [(1 - s) / (1 - t) * (1 - t / s) for t, s in itertools.pairwise(abars)]
    x, steps = noise.double(), len(times)
    for index, t in enumerate(times):
        now, then = abars[index], abars[index + 1]
        beta, variance = 1 - now / then, posterior[index]
        eps = predict(x, t)
        x0 = ((x - (1 - now).sqrt() * eps) / now.sqrt()).clamp(-1, 1)
        mean = then.sqrt() * beta / (1 - now) * x0 + (now / then).sqrt() * (1 - then) / (1 - now) * x
        if learned is not None:
            share = (learned(x, t) + 1) / 2
            lower = posterior[index] if then < 1 else posterior[index - 1]
            variance = torch.exp(share * beta.log() + (1 - share) * lower.log())
        bump = gamma * posterior[0] * max(math.sin(math.pi * (steps - 1 - index) / steps), 0.0)
        x = mean + (variance + bump) * scale * gradient(x0)
        if then < 1:  # the sampler's own noise is of the posterior
            drawn = torch.randn(x.shape, generator=generator, dtype=noise.dtype).double()
            x = x + posterior[index].sqrt() * drawn
    return x


def log_prob_gradient(model, labels):
    model = model.double()

    def gradient(x0: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x0 = x0.requires_grad_()
            logits = model(x0)
            value = logits.gather(1, labels[:, None]).sum() - torch.logsumexp(0.5 * logits, 1).sum()
            return torch.autograd.grad(value, x0)[0]

    return gradient


def pixels(channels: int):
    """A pipeline in pixel space whose network returns this many channels for a sample of one."""
    pipe = digits()
    if channels > 1:
        torch.manual_seed(0)
        pipe.transformer = cases.digits_transformer(channels).eval()
    return pipe


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize(("scale", "channels"), [(1.0, 1), (30.0, 1), (10.0, 2)])
def test_the_loop_with_the_schedulers_clipping_is_the_authors(scale, channels, schedule, dtype):
    pipe, model, labels = pixels(channels), classifier(), torch.tensor([3, 7])
    pipe.scheduler = DDPMScheduler(beta_schedule=schedule)
    pipe.transformer.to(dtype)
    noise = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=dtype)
    call = {"guidance_scale": 1.0, "num_inference_steps": 12, "output_type": "latent", "latents": noise}
    with attach(pipe, ClassifierGuidance(model, Strength("ddpm", scale=scale), Reading(softplus=0))):
        found = pipe([3, 7], generator=torch.Generator().manual_seed(0), **call).images
    plain = pipe([3, 7], generator=torch.Generator().manual_seed(0), **call).images
    pipe.transformer.double()

    def output(x: torch.Tensor, t: int) -> torch.Tensor:
        return pipe.transformer(x, timestep=torch.tensor(t).expand(2), class_labels=labels, return_dict=False)[0]

    with torch.no_grad():
        expected = authors_loop(
            pipe.scheduler,
            lambda x, t: output(x, t)[:, :1],
            log_prob_gradient(model, labels),
            noise,
            torch.Generator().manual_seed(0),
            learned=(lambda x, t: output(x, t)[:, 1:]) if channels == 2 else None,
            scale=scale,
        )
    assert (found - plain).abs().max() > 1e-2
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


def test_the_scheduler_clips_again_when_guidance_is_over():
    pipe = digits()
    pipe.scheduler = DDPMScheduler()
    call = {"guidance_scale": 1.0, "num_inference_steps": 4, "output_type": "latent"}
    before = pipe([3], generator=torch.Generator().manual_seed(0), **call).images
    with attach(pipe, ClassifierGuidance(classifier(), Strength("ddpm", scale=50.0))):
        pipe([3], generator=torch.Generator().manual_seed(0), **call)
        assert pipe.scheduler.config.clip_sample
    assert torch.equal(pipe([3], generator=torch.Generator().manual_seed(0), **call).images, before)


@pytest.mark.parametrize("settings", [{}, {"thresholding": True}], ids=str)
def test_outside_the_window_the_scheduler_clips_as_before(settings):
    """A guide that is never active leaves the pipeline's bits."""
    pipe = digits()
    pipe.scheduler = DDPMScheduler(**settings)
    call = {"guidance_scale": 1.0, "num_inference_steps": 4, "output_type": "latent"}
    plain = pipe([3], generator=torch.Generator().manual_seed(0), **call).images
    with attach(pipe, ClassifierGuidance(classifier(), Strength("ddpm", scale=50.0), start=0.0, stop=0.1)):
        assert torch.equal(pipe([3], generator=torch.Generator().manual_seed(0), **call).images, plain)


def test_the_last_step_takes_the_lower_bound_of_the_step_before():
    now, then, before = [(torch.tensor(1 - s**2).sqrt(), torch.tensor(s)) for s in (0.2, 0.0, 0.5)]
    raw = torch.tensor([-1.0, 1.0])
    lower, upper = learned_variance(raw, now, then, before)
    assert lower == pytest.approx(ancestral(before, now)[0].item(), rel=1e-5) and upper == pytest.approx(0.04, rel=1e-5)
