"""Right families pass in every precision; a family with one wrong fact is refused, or the fact has no effect."""

from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionPAGPipeline

from diffusion_guidance.attachment.establish import establish, of_family
from diffusion_guidance.attachment.families import Layout, find_family
from diffusion_guidance.attachment.inference import infer
from diffusion_guidance.attachment.verification import FamilyError, verify
from tests.attachment.seen import scaling, seen
from tests.attachment.wrong_facts import TEN, effect, wrong_facts
from tests.tiny_families import FAMILIES, VARIANTS


DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BY_NAME = {tiny.name: tiny for tiny in FAMILIES + VARIANTS}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tiny", FAMILIES, ids=lambda tiny: tiny.name)
def test_a_right_family_passes_in_every_precision(tiny, dtype):
    pipe = tiny.pipe(dtype)
    family, step = find_family(pipe), seen(pipe, lambda: tiny.draw(pipe))
    verify(family, of_family(step, family), scaling(step))
    assert establish(step, None, scaling(step)) is family


@pytest.mark.parametrize("name", TEN)
def test_a_single_wrong_fact_is_refused_or_without_effect(name):
    pipe = BY_NAME[name].pipe()
    family, step = find_family(pipe), seen(pipe, lambda: BY_NAME[name].draw(pipe))
    verify(family, of_family(step, family), scaling(step))
    refused, right = [], effect(family, step)
    for wrong in wrong_facts(family):
        changed = replace(family, **wrong)
        try:
            verify(changed, of_family(step, changed), scaling(step))
        except FamilyError as error:
            assert str(error).count("\n") == 0
            refused += wrong
            continue
        assert all(map(torch.equal, right, effect(changed, step))), wrong
    always = {"cond_first", "negated", "doubled", "listed", "calls", "guided", "sample", "timestep", "denoiser", "time"}
    assert always <= set(refused)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_mixture_passes_in_every_precision_and_a_wrong_one_in_none(dtype):
    """Its numbers are found from what is stepped, so that nothing is reproduced to the bit in half precision."""
    tiny = BY_NAME["StableDiffusion"]
    components = tiny.pipe().components
    pipe = StableDiffusionPAGPipeline(**components, requires_safety_checker=False, pag_applied_layers=["mid"])
    pipe.set_progress_bar_config(disable=True)
    family = infer(seen(pipe, lambda: tiny.draw(pipe, pag_scale=3.0))).family
    pipe.to(dtype)
    step = seen(pipe, lambda: tiny.draw(pipe, pag_scale=3.0, dtype=dtype))
    verify(family, of_family(step, family), scaling(step))
    for wrong in ({"strongest": 0}, {"strongest": 2}, {"negated": True}, {"outside": Layout(order=(0, 1, 3, 2))}):
        changed = replace(family, names=(), **wrong)
        with pytest.raises(FamilyError):
            verify(changed, of_family(step, changed), scaling(step))
