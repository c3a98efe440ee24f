import pytest
import torch

from diffusion_guidance import CFG, TemporalRescaling, attach
from diffusion_guidance.methods.temporal_rescaling import rescaled_estimate

from ..gaussian import GaussianPipeline
from .exact import flow_times, noise, noise_network, sample, velocities


def factor(alpha: float, sigma: float, k: float, variance: float) -> float:
    snr = (alpha / sigma) ** 2
    return (snr * variance + 1) / (snr * variance / k + 1)


def test_equals_the_formula_on_noise_predictions():
    draw, eps, levels = noise_network(6)
    first, got = draw([CFG(3.0), TemporalRescaling(1.3, 0.5)])
    x = first.double()
    for k in range(6):
        (alpha, sigma), (alpha_s, sigma_s) = levels[k], levels[k + 1]
        cond, uncond = eps(x, k)
        noise_there = factor(alpha, sigma, 1.3, 0.5) * (uncond + 3.0 * (cond - uncond))
        x = alpha_s * (x - sigma * noise_there) / alpha + sigma_s * noise_there
    assert (got.double() - x).abs().max() < 1e-5 * x.abs().max()


def test_equals_the_formula_on_velocities():
    x = noise().double()
    for t, s in flow_times(8):
        cond, uncond = velocities(x, t)
        velocity = uncond + 2.0 * (cond - uncond)
        if t < 1:
            eps = factor(1 - t, t, 0.8, 0.6) * (x + (1 - t) * velocity)
            velocity = eps - (x - t * eps) / (1 - t)
        x = x + (s - t) * velocity
    torch.testing.assert_close(sample([CFG(2.0), TemporalRescaling(0.8, 0.6)], 8)[0].double(), x, atol=1e-5, rtol=0)


def test_for_gaussian_data_the_samples_are_those_of_the_smaller_variance():
    """One Gaussian about 0 of variance 0.49, k = 2: every prediction is the exact one for variance 0.245."""
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    wide, narrow = (GaussianPipeline(torch.zeros(1, 6), spread) for spread in (0.7, 0.7 / 2**0.5))
    with attach(wide, TemporalRescaling(2.0, 0.49)):
        got = wide([0] * 4, x, 10, 1.0).images
    torch.testing.assert_close(got, narrow([0] * 4, x, 10, 1.0).images, atol=1e-5, rtol=1e-5)


def test_finite_at_pure_noise():
    x0, eps = torch.ones(2, 3), torch.full((2, 3), 2.0)
    assert torch.equal(rescaled_estimate(x0, eps, torch.tensor(0.0), torch.tensor(1.0), 1.5, 1.0), x0)


def test_k_1_changes_nothing_to_the_bit():
    assert torch.equal(sample([CFG(3.0), TemporalRescaling(1.0)])[0], sample(CFG(3.0))[0])


@pytest.mark.parametrize("arguments", [{"k": 0.0}, {"variance": -1.0}, {"k": float("inf")}])
def test_bad_settings_are_refused(arguments):
    with pytest.raises(ValueError, match="finite and above 0"):
        TemporalRescaling(**arguments)
