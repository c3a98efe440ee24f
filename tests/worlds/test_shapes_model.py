"""The checkpoint that ships: stock diffusers loads it, it draws what is asked for, and guidance matters to it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from diffusion_guidance import CFG
from diffusion_guidance.evaluation import Moments, frechet_distance, pipeline_draw
from diffusion_guidance.evaluation.subjects import load_subject
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds import Scenes


ASSETS = Path(__file__).parents[2] / "assets"


@pytest.fixture(scope="module")
def subject():
    return load_subject("shapes", ASSETS)


def test_the_checkpoint_is_one_that_stock_diffusers_loads():
    pipe = StableDiffusion3Pipeline.from_pretrained(ASSETS / "shapes", text_encoder_3=None, tokenizer_3=None)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a red circle at the top left and a blue star at the bottom right on a dark background").images[0]
    assert image.size == (32, 32)
    pixels = torch.from_numpy(np.array(image)).int()
    assert pixels[8, 8, 0] > pixels[8, 8, 2] + 80  # red at the top left
    assert pixels[24, 24, 2] > pixels[24, 24, 0] + 80  # blue at the bottom right
    assert pixels[8, 24].max() < 80  # dark where nothing was asked for


def test_guidance_matters(subject):
    pipe, seeds = load_pipeline(str(ASSETS / "shapes"), device="cpu"), range(60)
    call = {**subject.call, "guidance_scale": 2.0, "num_inference_steps": 10}
    without, guided = (
        subject.measure(pipeline_draw(pipe, subject.condition, [CFG(weight)], **call)(seeds)[0], seeds)["alignment"]
        for weight in (1.0, 3.0)
    )
    assert guided.float().mean() > 0.9 and guided.float().mean() > without.float().mean() + 0.05


def test_real_scenes_lie_near_the_reference_and_noise_far(subject):
    def score(images: torch.Tensor) -> tuple[float, float]:
        found = subject.measure(images, range(len(images)))
        distance = frechet_distance(Moments.of(found["features"]), subject.reference)
        return distance, found["alignment"].float().mean().item()

    real, by_chance = score(Scenes.sample(1000, torch.Generator().manual_seed(3)).render())
    noise, never = score(torch.rand(1000, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert real < 0.1 < 3 < noise
    assert by_chance < 0.05 and never == 0  # other captions than theirs
