import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.guiders import ClassifierFreeGuidance

from diffusion_guidance import CFG, GuidanceInterval, Trace, attach, classifier_free_guidance
from diffusion_guidance.core.step import Step

from ..gaussian import GaussianPipeline
from ..tiny import draw_dit, draw_sd3, tiny_dit, tiny_sd3


@pytest.fixture(scope="module")
def sd3():
    return tiny_sd3()


def pair(*shape: int):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@pytest.mark.parametrize("shape", [(2, 8), (2, 16, 4), (2, 4, 8, 8), (2, 4, 3, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_the_guider_of_diffusers_to_the_bit(shape, dtype):
    cond, uncond = (tensor.to(dtype) for tensor in pair(*shape))
    theirs = ClassifierFreeGuidance(guidance_scale=5.0).forward(cond, uncond).pred
    assert torch.equal(classifier_free_guidance(cond, uncond, 5.0), theirs)


def test_a_weight_for_each_sample():
    cond, uncond = pair(3, 4, 8, 8)
    weights = torch.tensor([0.0, 1.0, 3.0])
    out = classifier_free_guidance(cond, uncond, weights)
    for i, weight in enumerate(weights.tolist()):
        torch.testing.assert_close(out[i], classifier_free_guidance(cond[i : i + 1], uncond[i : i + 1], weight)[0])


def test_weight_zero_and_one_are_the_two_predictions():
    cond, uncond = pair(2, 4, 8, 8)
    assert torch.equal(classifier_free_guidance(cond, uncond, 0.0), uncond)
    torch.testing.assert_close(classifier_free_guidance(cond, uncond, 1.0), cond)


def test_a_schedule_of_numbers_and_of_a_function(sd3):
    numbers, trace = [5.0, 3.0, 1.5], Trace()
    with attach(sd3, [CFG(weight=numbers), trace]):
        by_numbers = draw_sd3(sd3)
    torch.testing.assert_close(
        trace.to_dict()["weight"], torch.tensor(numbers)[:, None].repeat(1, 2), atol=1e-4, rtol=0
    )
    with attach(sd3, CFG(weight=lambda step: numbers[step.index])):
        assert torch.equal(draw_sd3(sd3), by_numbers)
    with attach(sd3, CFG(weight=lambda step: torch.tensor([5.0, 3.0]))):
        draw_sd3(sd3)


def test_a_schedule_that_is_too_short_keeps_its_last_number(sd3):
    with attach(sd3, CFG(weight=[5.0, 3.0])):
        short = draw_sd3(sd3)
    with attach(sd3, CFG(weight=[5.0, 3.0, 3.0])):
        assert torch.equal(draw_sd3(sd3), short)


def test_rescale_equals_the_guider_of_diffusers(sd3):
    theirs = ClassifierFreeGuidance(guidance_scale=5.0, guidance_rescale=0.7)

    def guider(step, proceed):
        return theirs.forward(step.cond, step.uncond).pred

    with attach(sd3, guider):
        expected = draw_sd3(sd3)
    with attach(sd3, CFG(weight=5.0, rescale=0.7)):
        assert torch.equal(draw_sd3(sd3), expected)
    with attach(sd3, CFG(rescale=0.7)):  # the pipeline's own weight, 5, rescaled
        assert torch.equal(draw_sd3(sd3), expected)


def test_a_window_of_steps(sd3):
    trace = Trace()
    with attach(sd3, [CFG(weight=2.0, start=0.25, stop=0.75), trace]):
        draw_sd3(sd3, steps=4)
    torch.testing.assert_close(trace.to_dict()["weight"][:, 0], torch.tensor([5.0, 2.0, 2.0, 5.0]), atol=1e-4, rtol=0)


def test_the_interval_is_in_units_of_sigma_over_alpha():
    """On a flow grid of ten steps sigma / alpha is t / (1 - t): 0.28 to 2.9 holds t from 0.22 to 0.74."""
    pipe, trace = GaussianPipeline(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), spread=1.0), Trace()
    callbacks = [CFG(weight=3.0), GuidanceInterval(low=0.28, high=2.9), trace]
    with attach(pipe, callbacks, skip=False):  # with both passes in every step, so that each has its weight
        pipe([0, 1, 2], torch.randn(3, 4, generator=torch.Generator().manual_seed(1)), num_inference_steps=10)
    data = trace.to_dict()
    inside = (data["sigma"] > 0.28 * data["alpha"]) & (data["sigma"] <= 2.9 * data["alpha"])
    t = data["timestep"] / 1000
    assert torch.equal(inside, (t > 0.28 / 1.28) & (t <= 2.9 / 3.9)) and 0 < inside.sum() < 10
    expected = torch.where(inside, 3.0, 1.0)[:, None].repeat(1, 3)
    torch.testing.assert_close(data["weight"], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("low", "high", "guided"), [(1.0, 3.0, False), (0.5, 1.0, True), (0.5, 3.0, True)])
def test_the_interval_is_open_below_and_closed_above(low, high, guided):
    """At sigma / alpha = 1, exactly."""

    class Denoiser:
        def level(self, timestep, index):
            return torch.tensor(0.75), torch.tensor(0.75)

    cond, uncond = pair(2, 4)
    step = Step(cond, torch.tensor(500), 0, 1, "epsilon", Denoiser(), predicted=(cond, uncond))
    found = GuidanceInterval(low, high)(step, lambda step: uncond)
    assert torch.equal(found, uncond if guided else cond)


def test_an_open_interval_holds_a_sample_of_pure_noise():
    pipe, trace = tiny_dit(scheduler=DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing")), Trace()
    with attach(pipe, [GuidanceInterval(low=0.0, high=None), trace]):
        draw_dit(pipe)
    torch.testing.assert_close(trace.to_dict()["weight"], torch.full((3, 2), 4.0), atol=1e-3, rtol=0)


WRONG = [
    float("nan"),
    [],
    [1.0, float("inf")],
    "strong",
    [1.0, "two"],
    torch.tensor([1.0, torch.nan]),
    torch.ones(2).int(),
]


@pytest.mark.parametrize("weight", WRONG)
def test_bad_weights_are_refused(weight):
    with pytest.raises(ValueError, match="weight must be"):
        CFG(weight=weight)


def test_bad_rescale_and_interval_are_refused():
    with pytest.raises(ValueError, match=r"rescale must be in \[0, 1\]"):
        CFG(rescale=1.5)
    with pytest.raises(ValueError, match="0 <= low < high"):
        GuidanceInterval(low=3.0, high=1.0)
