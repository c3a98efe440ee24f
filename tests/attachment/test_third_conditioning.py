"""A third conditioning, guided by a callback: InstructPix2Pix's two weights, against the pipeline's own."""

import diffusers
import pytest
import torch

from diffusion_guidance import attach
from diffusion_guidance.attachment.families import Mixture
from tests.tiny_families import FAMILIES, relative_error
from tests.tiny_families.image import unet
from tests.tiny_families.variants import PICTURES


TINY = next(tiny for tiny in FAMILIES if tiny.name == "StableDiffusion")


def dual_guidance(text: float, image: float):
    """Equation 3 of arXiv 2211.09800, as docs/families.md has it."""

    def callback(step, proceed):
        cond, only_image, empty = (step.predictions[name] for name in ("cond", "other_1", "other_2"))
        return empty + text * (cond - only_image) + image * (only_image - empty)

    return callback


@pytest.fixture(scope="module")
def pipe():
    torch.manual_seed(0)
    parts = TINY.build().components | {"unet": unet(in_channels=8)}
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, text: float, image: float) -> torch.Tensor:
    inputs = TINY.inputs() | {"image": PICTURES, "guidance_scale": text, "image_guidance_scale": image}
    inputs = {name: value for name, value in inputs.items() if name not in ("height", "width")}
    generator = torch.Generator().manual_seed(1)
    return pipe(**inputs, num_inference_steps=3, generator=generator, output_type="latent").images


def test_two_weights_of_a_callback_are_the_pipelines(pipe):
    wanted, other = draw(pipe, 4.0, 1.2), draw(pipe, 7.5, 1.5)
    with attach(pipe, dual_guidance(4.0, 1.2)) as attachment:
        found = draw(pipe, 7.5, 1.5)
    assert relative_error(other, wanted) > 1e-2
    assert relative_error(found, wanted) < 1e-6
    assert attachment.family.names == ("cond", "other_1", "other_2")


def test_all_predictions_are_found_elsewhere_too(pipe):
    seen = []

    def callback(step, proceed):
        elsewhere = step.at(step.sample, timestep=step.timestep).predictions
        assert elsewhere.keys() == step.predictions.keys() == {"cond", "other_1", "other_2", "uncond"}
        seen.extend(torch.equal(elsewhere[name], step.predictions[name]) for name in ("cond", "other_1", "other_2"))
        return proceed(step)

    with attach(pipe, callback):
        draw(pipe, 7.5, 1.5)
    assert len(seen) == 9 and all(seen)


def test_a_mixture_names_its_strongest_prediction_cond():
    facts = {"pipelines": (), "denoiser": "unet", "enable": "", "strongest": 1}
    assert Mixture(**facts, names=("empty", "cond", "image")).cond_position(3) == 1
    for names in (("cond", "image", "empty"), ("uncond", "cond", "image")):
        with pytest.raises(ValueError, match=r'"cond" at position 1, and no "uncond"'):
            Mixture(**facts, names=names)
