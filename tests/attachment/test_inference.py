"""Families inferred from one step, against the facts that were written down by hand."""

from types import SimpleNamespace

import diffusers
import pytest
import torch

from diffusion_guidance.attachment.explain import explain
from diffusion_guidance.attachment.families import Call, Family, Mixture, Observed, find_family, formulas
from diffusion_guidance.attachment.inference import InferenceError, infer
from diffusion_guidance.attachment.roles import sample_argument
from tests.attachment.seen import seen
from tests.tiny_families import FAMILIES, VARIANTS


EACH = pytest.mark.parametrize("tiny", FAMILIES + VARIANTS, ids=lambda tiny: tiny.name)
EACH_FAMILY = pytest.mark.parametrize("tiny", FAMILIES, ids=lambda tiny: tiny.name)
FACTS = ("denoiser", "sample", "timestep", "calls", "cond_first", "negated", "listed", "doubled", "inside", "outside")
BY_NAME = {tiny.name: tiny for tiny in FAMILIES + VARIANTS}


@EACH
def test_every_fact_that_was_written_by_hand_is_seen(tiny):
    pipe = tiny.pipe()
    found, wanted = infer(seen(pipe, lambda: tiny.draw(pipe))), find_family(pipe)
    assert {name: getattr(found.family, name) for name in FACTS} == {name: getattr(wanted, name) for name in FACTS}
    times = torch.tensor([999.0, 500.0, 3.5])
    torch.testing.assert_close(found.family.time(times, pipe), wanted.time(times, pipe), rtol=1e-6, atol=1e-6)
    assert found.explanation.weight == pytest.approx(tiny.weight, rel=1e-5)
    always = tiny.family == "QwenImage" or tiny.name in ("QwenImage", "Lumina2")
    assert (found.family.post_processing is not None) == always


@EACH_FAMILY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_half_precision_a_family_is_seen_to_the_bit_or_refused(tiny, dtype):
    pipe = tiny.pipe(dtype)
    try:
        found = infer(seen(pipe, lambda: tiny.draw(pipe)))
    except InferenceError as error:
        assert "to the bit" in str(error)
        return
    wanted = find_family(pipe)
    assert found.family.cond_first == wanted.cond_first and found.family.negated == wanted.negated
    assert found.explanation.weight == pytest.approx(tiny.weight, rel=1e-6)


def test_the_three_predictions_of_perturbed_attention_are_two():
    """Against the combination as it is written in the paper: u + g (c - u) + s (c - p)."""
    tiny = BY_NAME["StableDiffusion"]
    pipe = diffusers.StableDiffusionPAGPipeline(
        **tiny.build().components, requires_safety_checker=False, pag_applied_layers=["mid", "up"]
    )
    pipe.set_progress_bar_config(disable=True)
    step = seen(pipe, lambda: tiny.draw(pipe, pag_scale=3.0))
    found = infer(step)
    assert isinstance(found.family, Mixture)
    uncond, cond, perturbed = step.calls[-1].output.chunk(3)
    weight = 5.0 + 3.0
    assert found.explanation.weight == pytest.approx(weight, rel=1e-4)
    seen_cond, seen_uncond = found.family.split([step.calls[-1].output], _alone(step), step.sample)
    assert torch.equal(seen_cond, cond)
    expected = ((1 - 5.0) * uncond - 3.0 * perturbed) / (1 - weight)
    torch.testing.assert_close(seen_uncond, expected, rtol=1e-3, atol=1e-4)


def _alone(step):
    from dataclasses import replace

    return replace(step, calls=step.calls[-1:])


def test_predictions_that_are_not_finite_are_refused_in_a_sentence():
    tiny = BY_NAME["StableDiffusion"]
    pipe = tiny.pipe()
    step = seen(pipe, lambda: tiny.draw(pipe))
    step.calls[-1].output[0] = torch.nan
    with pytest.raises(InferenceError, match="predictions, or what its scheduler is given, are not finite"):
        infer(step)


def test_a_norm_along_the_channels_of_lists_of_images_is_seen():
    """JoyImage-Edit's, written out here."""
    generator = torch.Generator().manual_seed(0)
    cond, uncond = torch.randn(2, 2, 3, 4, 5, 5, generator=generator)
    combined = uncond + 4.0 * (cond - uncond)
    output = combined * cond.norm(dim=2, keepdim=True) / combined.norm(dim=2, keepdim=True)
    found = explain(SimpleNamespace(guidance_scale=4.0), [uncond, cond], output, torch.zeros_like(output))
    assert (found.kind, found.strongest, found.told) == ("plain", 1, "guidance_scale")
    assert found.post_processing is formulas.CHANNEL_NORM


def test_a_time_for_each_pixel_keeps_the_clean_ones():
    """SanaVideo's image-to-video: time 0, and the clean image, in the first frame."""
    sample = torch.randn(1, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    given, time = sample.clone(), torch.full((1, 1, 3, 2, 2), 700.0)
    given[:, :, 0], time[:, :, 0] = 5.0, 0.0
    call = Call(torch.nn.Identity(), {"hidden_states": given, "timestep": time}, sample, "transformer")
    assert sample_argument(call, sample).name == "hidden_states"
    family = Family(("P",), "transformer", "", weight="w")
    step = Observed(None, (call,), sample, torch.tensor(700.0), sample)
    inputs = family.inputs(call, sample + 1, torch.tensor(300.0), step, lambda x: x)
    assert torch.equal(inputs["hidden_states"][:, :, 1:], sample[:, :, 1:] + 1)
    assert (inputs["hidden_states"][:, :, 0] == 5.0).all()
    assert (inputs["timestep"][:, :, 0] == 0).all() and (inputs["timestep"][:, :, 1:] == 300.0).all()
