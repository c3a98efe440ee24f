import diffusers
import pytest
import torch

from diffusion_guidance import RectifiedCFG, attach

from ..tiny_families import FAMILIES
from .exact import flow_times, noise, noise_network, sample, velocities


def test_equals_the_papers_loop():
    """The predictor is a whole conditional step; at the last step the direction is the one at x."""
    x = noise().double()
    for t, s in flow_times(8):
        cond, uncond = velocities(x, t)
        there = velocities(x + (s - t) * cond, s) if s > 0 else (cond, uncond)
        x = x + (s - t) * (cond + 1.0 * (there[0] - there[1]))
    got, evaluations = sample(RectifiedCFG(1.0), 8, dtype=torch.float64)
    torch.testing.assert_close(got, x, atol=1e-5, rtol=0)
    assert evaluations == 7


def test_with_noise_predictions():
    draw, eps, levels = noise_network(4)
    first, got = draw(RectifiedCFG(1.5))
    x = first.double()
    for k in range(4):
        (alpha, sigma), (alpha_s, sigma_s) = levels[k], levels[k + 1]
        cond, uncond = eps(x, k)
        there = (cond, uncond)
        if k < 3:
            there = eps(alpha_s * (x - sigma * cond) / alpha + sigma_s * cond, k + 1)
        guided = cond + 1.5 * (there[0] - there[1])
        x = alpha_s * (x - sigma * guided) / alpha + sigma_s * guided
    assert (got.double() - x).abs().max() < 1e-5 * x.abs().max()


def test_weight_0_is_the_conditional_prediction_at_no_cost():
    got, evaluations = sample(RectifiedCFG(0.0))
    assert torch.equal(got, sample(lambda step, proceed: step.cond)[0]) and evaluations == 0


def test_predictions_that_change_along_a_step_are_refused():
    tiny = next(tiny for tiny in FAMILIES if tiny.name == "StableDiffusion")
    pipe = tiny.pipe()
    pipe.scheduler = diffusers.DDIMScheduler(prediction_type="v_prediction", steps_offset=1)
    with attach(pipe, RectifiedCFG()), pytest.raises(ValueError, match="are v_prediction; use CFGPlusPlus or APG"):
        tiny.draw(pipe)


@pytest.mark.parametrize("weight", [-1.0, float("inf")])
def test_bad_weights_are_refused(weight):
    with pytest.raises(ValueError, match="weight must be finite and at least 0"):
        RectifiedCFG(weight)
