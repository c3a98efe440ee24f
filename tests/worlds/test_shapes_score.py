from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from guidance import CFG
from guidance.generation import load_pipeline
from guidance.worlds import Scenes
from guidance.worlds.shapes_score import draw, load_judge, score


ASSETS = Path(__file__).parents[2] / "assets"


@pytest.fixture(scope="module")
def pipe():
    return load_pipeline(str(ASSETS / "shapes"))


@pytest.fixture(scope="module")
def judge():
    return load_judge(ASSETS)


def test_the_checkpoint_is_one_that_stock_diffusers_loads():
    pipe = StableDiffusion3Pipeline.from_pretrained(ASSETS / "shapes", text_encoder_3=None, tokenizer_3=None)
    pipe.set_progress_bar_config(disable=True)
    image = pipe("a red circle at the top left and a blue star at the bottom right on a dark background").images[0]
    assert image.size == (32, 32)
    pixels = torch.from_numpy(np.array(image)).int()
    assert pixels[8, 8, 0] > pixels[8, 8, 2] + 80  # red at the top left
    assert pixels[24, 24, 2] > pixels[24, 24, 0] + 80  # blue at the bottom right
    assert pixels[8, 24].max() < 80  # dark where nothing was asked for


def test_guidance_matters(pipe, judge):
    seeds = range(100)
    without, guided = (
        score(*judge, draw(pipe, seeds, [CFG(weight)], steps=10), seeds)["alignment"] for weight in (1.0, 3.0)
    )
    assert guided > 0.9 and guided > without + 0.05


def test_a_picture_depends_on_its_seed_alone(pipe):
    together = draw(pipe, range(4), [CFG(3.0)], steps=3)
    alone = draw(pipe, [2], [CFG(3.0)], steps=3)
    assert (together[2] - alone[0]).abs().max() < 1e-3
    assert torch.equal(draw(pipe, range(4), [], steps=3, guidance_scale=3.0), together)


def test_real_scenes_score_near_zero_and_noise_far(judge):
    scenes = Scenes.sample(1000, torch.Generator().manual_seed(3))
    real = score(*judge, scenes.render(), range(1000))
    noise = score(*judge, torch.rand(1000, 3, 32, 32, generator=torch.Generator().manual_seed(0)), range(1000))
    assert real["frechet"] < 0.1 < 3 < noise["frechet"]
    assert real["alignment"] < 0.05 and noise["alignment"] == 0  # other captions than theirs


def test_a_missing_judge_is_told_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match=r"scripts/train_shapes\.py makes it"):
        load_judge(tmp_path)
