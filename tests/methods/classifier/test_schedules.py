import math
from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, HeunDiscreteScheduler

from diffusion_guidance.core.levels import level_at_index
from diffusion_guidance.methods.classifier.gradient import class_gradient
from diffusion_guidance.methods.classifier.schedules import (
    ancestral,
    bump,
    denoised_variance,
    edm_input,
    edm_shift,
    edm_strength,
    landing,
    variance_shift,
)


SIZE = {"moderate": 4, "past float16": 16, "past float32": 64}  # exp overflows at 11 and at 88


def head(size: int):
    """Logits (B, 10) that are the pixels, times a power of two, so that they have no rounding of their own."""
    return lambda x: size * x.flatten(1)


def test_the_logits_are_as_large_as_the_names_say():
    largest = {name: head(size)(random_images()[0]).abs().max() for name, size in SIZE.items()}
    assert largest["moderate"] < 11 < largest["past float16"] < 88 < largest["past float32"]


def authors_gradient(classifier, x: torch.Tensor, labels: torch.Tensor, tau_joint: float, tau_marginal: float):
    """Direct exponentials, as in the authors' code; float64 holds them."""
    x = x.double().requires_grad_(True)
    logits = classifier(x)
    numerator = torch.exp(logits * tau_joint)[range(len(logits)), labels]
    denominator = torch.exp(logits * tau_marginal).sum(1)
    return torch.autograd.grad(torch.log(numerator / denominator).sum(), x)[0]


def random_images(count: int = 6, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 2, 5, generator=generator), torch.arange(count) % 10


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ((ours.double() - theirs).abs().max() <= 1e-6 * theirs.abs().max().clamp_min(1)).item()


@pytest.mark.parametrize("size", SIZE.values(), ids=SIZE)
@pytest.mark.parametrize("taus", [(1.0, 0.5), (1.0, 1.0), (0.7, 0.0)])
def test_the_ddpm_shift_is_that_of_the_authors(size, taus):
    x, labels = random_images()
    ours = class_gradient(head(size), x, labels, *taus)
    for number, steps, variance, largest in [(0, 50, 0.33, 0.33), (30, 50, 0.02, 0.33), (249, 250, 1e-4, 0.077)]:
        shift = variance_shift(ours, variance, largest, (steps - 1 - number) / steps, gamma=0.3, scale=1.0)
        added = max(math.sin((steps - 1 - number) / steps * math.pi) * largest * 0.3, 0.0)
        assert close(shift, (variance + added) * authors_gradient(head(size), x, labels, *taus))


@pytest.mark.parametrize("size", SIZE.values(), ids=SIZE)
@pytest.mark.parametrize("level", [0.1, 80.0])
def test_the_edm_shift_is_that_of_the_authors(size, level):
    noise, labels = random_images(seed=2)
    steps, sample = 18, level * noise
    ours = class_gradient(head(size), edm_input(sample), labels, 1.0, 0.0)
    for index in (0, 7, 17):
        x = sample.double()
        norm = x.square().mean((1, 2, 3)).sqrt()
        shown = torch.stack([one / length if length > 1 else one for one, length in zip(x, norm, strict=True)])
        assert close(edm_input(sample), shown)
        # Large logits amplify the rounding of what is shown, so from here on both see the same.
        gradient = authors_gradient(head(size), edm_input(sample), labels, 1.0, 0.0)
        strength = max(0.004 / (steps + 1) * (steps + 1 - index), 0.00001)
        strength += math.sin(index / steps * math.pi) * 0.004 * 0.3
        length = gradient.square().mean((1, 2, 3)).sqrt()
        expected = gradient / length[:, None, None, None] * norm[:, None, None, None] * strength
        assert close(edm_shift(ours, sample, edm_strength(index, steps)), expected)


def test_a_gradient_of_zero_shifts_nothing():
    assert torch.equal(edm_shift(torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 4, 4), 0.004), torch.zeros(2, 1, 4, 4))


@pytest.mark.parametrize("steps", [25, 50, 250])
def test_the_ancestral_step_is_that_of_ddpm(steps):
    scheduler = DDPMScheduler(clip_sample=False)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    sample, x0 = torch.randn(2, 1, 4, 4, 4, generator=generator)
    for index in (0, steps // 2, steps - 2):
        t = scheduler.timesteps[index]
        alpha, sigma = level_at_index(scheduler, index)
        variance, c0 = ancestral((alpha, sigma), level_at_index(scheduler, index + 1))
        torch.testing.assert_close(variance, scheduler._get_variance(t), rtol=2e-3, atol=0)  # 1 - abar is float32 there
        moved = [
            scheduler.step((sample - alpha * each) / sigma, t, sample, generator=torch.Generator().manual_seed(1))
            for each in (x0, x0 + 1)
        ]
        shift = moved[1].prev_sample - moved[0].prev_sample
        torch.testing.assert_close(shift, c0.expand_as(shift), rtol=1e-2, atol=2e-5)


def test_the_last_ancestral_step_ends_at_the_estimate():
    scheduler = DDIMScheduler()
    scheduler.set_timesteps(10)
    variance, c0 = ancestral(level_at_index(scheduler, 9), (torch.tensor(1.0), torch.tensor(0.0)))
    assert variance == 0 and (c0 - 1).abs() < 1e-6


def test_where_each_evaluation_of_heun_lands():
    """Of both evaluations of a step the first moves half; the last step has one alone, which moves the whole."""
    scheduler = HeunDiscreteScheduler()
    scheduler.set_timesteps(3)
    denoiser = SimpleNamespace(component=lambda _: scheduler, level=lambda _, index: level_at_index(scheduler, index))
    steps = [SimpleNamespace(grid_index=i, first=0, total=3, denoiser=denoiser) for i in range(5)]
    found = [landing(step) for step in steps]
    assert [(number, total, share) for number, total, _, share in found] == [
        (0, 3, 0.5), (0, 3, 0.0), (1, 3, 0.5), (1, 3, 0.0), (2, 3, 1.0)
    ]  # fmt: skip
    sigmas = scheduler.sigmas.tolist()
    assert [end and end[1].item() for _, _, end, _ in found] == [sigmas[1], None, sigmas[3], None, sigmas[5]]


@pytest.mark.parametrize("level", [(0.0, 1.0), (0.3, 0.7), (0.8, 0.6), (1.0, 14.0), (0.999, 0.02)])
def test_the_shift_in_x0_is_bayes_for_gaussian_data(level):
    """Data N(0, s^2), log p(y | x0) = a x0: the posterior is integrated on a grid, in float64."""
    s, a, x = 0.5, 1.7, 0.4
    alpha, sigma = (torch.tensor(value, dtype=torch.float64) for value in level)
    x0 = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    prior = -(x0**2) / (2 * s**2) - (x - alpha * x0) ** 2 / (2 * sigma**2)
    means = [((prior + add * x0).softmax(0) * x0).sum() for add in (0.0, a)]
    gradient = torch.full((1, 1), a, dtype=torch.float64)
    shift = variance_shift(gradient, denoised_variance((alpha, sigma), s), s**2, 0.4, gamma=0.0, scale=1.0)
    assert (means[1] - means[0] - shift.squeeze()).abs() < 1e-6


def test_the_bump_is_in_the_middle():
    assert bump(0.0) == 0 and bump(1.0) >= 0 and bump(0.5) == 1
    flat, bumped = (variance_shift(torch.ones(1, 1), 0.1, 0.2, 0.5, gamma, 2.0) for gamma in (0.0, 0.3))
    torch.testing.assert_close(flat, torch.full((1, 1), 0.2))
    torch.testing.assert_close(bumped, torch.full((1, 1), 2 * (0.1 + 0.06)))
