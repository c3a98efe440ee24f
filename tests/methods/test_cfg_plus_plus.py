import diffusers
import pytest
import torch

from diffusion_guidance import CFG, CFGPlusPlus, attach
from diffusion_guidance.methods.cfg_plus_plus import cfg_plus_plus_weight

from ..tiny_families import FAMILIES
from .exact import flow_times, noise, noise_network, sample, velocities


def test_equals_the_papers_loop_on_a_flow():
    x = noise().double()
    for t, s in flow_times(10):
        cond, uncond = (x - t * v for v in velocities(x, t))  # x0
        eps = (x - (1 - t) * uncond) / t
        x = (1 - s) * (uncond + 0.6 * (cond - uncond)) + s * eps
    got, evaluations = sample(CFGPlusPlus(0.6), 10)
    torch.testing.assert_close(got.double(), x, atol=1e-5, rtol=0)
    assert evaluations == 0


def test_equals_the_papers_loop_with_ddim():
    draw, eps, levels = noise_network(10)
    first, got = draw(CFGPlusPlus(0.8))
    x = first.double()
    for k in range(10):
        (alpha, sigma), (alpha_s, sigma_s) = levels[k], levels[k + 1]
        cond, uncond = eps(x, k)
        x0 = (x - sigma * uncond) / alpha + 0.8 * sigma * (uncond - cond) / alpha
        x = alpha_s * x0 + sigma_s * uncond
    assert (got.double() - x).abs().max() < 1e-5 * x.abs().max()


def test_scale_0_is_the_unconditional_prediction_and_the_last_step_is_cfg():
    assert torch.equal(sample(CFGPlusPlus(0.0))[0], sample(CFG(0.0))[0])
    weight = cfg_plus_plus_weight(0.7, (torch.tensor(0.9), torch.tensor(0.1)), (torch.tensor(1.0), torch.tensor(0.0)))
    assert weight.item() == pytest.approx(0.7)


def test_samplers_that_evaluate_twice_in_a_step_are_refused():
    tiny = next(tiny for tiny in FAMILIES if tiny.name == "StableDiffusion3")
    components = tiny.pipe().components | {"scheduler": diffusers.FlowMatchHeunDiscreteScheduler()}
    pipe = diffusers.StableDiffusion3Pipeline(**components)
    with attach(pipe, CFGPlusPlus()), pytest.raises(ValueError, match="evaluate the network once in a step"):
        tiny.draw(pipe)


@pytest.mark.parametrize("scale", [-0.1, float("nan")])
def test_bad_scales_are_refused(scale):
    with pytest.raises(ValueError, match="scale must be finite and at least 0"):
        CFGPlusPlus(scale)
