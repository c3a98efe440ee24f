"""What `describe` prints is the family again."""

import pytest

from diffusion_guidance.attachment import families
from diffusion_guidance.attachment.describe import describe, source
from diffusion_guidance.attachment.establish import establish
from diffusion_guidance.attachment.families import registry
from tests.attachment.seen import scaling, seen
from tests.tiny_families import FAMILIES


BY_NAME = {tiny.name: tiny for tiny in FAMILIES}


def pasted(text: str):
    return eval(text, {**vars(families), "formulas": families.formulas})


@pytest.mark.parametrize("name", ["StableDiffusion", "Flux", "QwenImage", "Z-Image", "DiT"])
def test_an_inferred_family_is_printed_as_source_of_itself(name, monkeypatch):
    monkeypatch.setattr(registry, "_FAMILIES", [])
    pipe = BY_NAME[name].pipe()
    step = seen(pipe, lambda: BY_NAME[name].draw(pipe))
    family = establish(step, None, scaling(step))
    assert pasted(source(family)) == family


def test_a_pipeline_is_described_by_a_call(monkeypatch):
    monkeypatch.setattr(registry, "_FAMILIES", [])
    tiny = BY_NAME["StableDiffusion3"]
    pipe = tiny.pipe()
    described = describe(pipe, **tiny.inputs() | tiny.scale | {"num_inference_steps": 2, "output_type": "latent"})
    family = pasted(described)
    assert family.pipelines == ("StableDiffusion3Pipeline",) and family.denoiser == "transformer"
    assert family.weight == "guidance_scale"
    assert "step" not in vars(pipe.scheduler)
