from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.emoji import PROMPTS


CHECKPOINT = Path(__file__).parents[2] / "assets" / "emoji"
CALL = {"num_inference_steps": 4, "guidance_scale": 1.0, "max_sequence_length": 1, "output_type": "pt"}


@pytest.fixture(scope="module")
def pipe():
    pipe = load_pipeline(str(CHECKPOINT))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe, prompts):
    return pipe(prompts, generator=torch.Generator().manual_seed(0), **CALL).images


def test_the_checkpoint_is_small_names_its_sources_and_no_folder_of_another_machine():
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 24e6
    card = (CHECKPOINT / "README.md").read_text()
    assert "\nlicense: other\n" in card.split("---")[1]
    assert all(source in card for source in ("Fluent Emoji", "Noto Emoji", "Twemoji", "CC BY 4.0", "Apache-2.0", "MIT"))
    assert not [path for path in files if path.suffix == ".json" and "run/autoencoder" in path.read_text()]


def test_stock_diffusers_and_the_loader_draw_the_same(pipe):
    stock = StableDiffusion3Pipeline.from_pretrained(CHECKPOINT, text_encoder_3=None, tokenizer_3=None)
    stock.set_progress_bar_config(disable=True)
    torch.testing.assert_close(drawn(stock, ["3d red heart"]), drawn(pipe, ["3d red heart"]))


def test_colours_are_those_of_what_was_asked_for(pipe):
    heart, frog, whale = drawn(pipe, ["3d red heart", "twemoji frog", "twemoji whale"])[:, :, 24:44, 24:44].mean((2, 3))
    assert heart.argmax() == 0 and frog.argmax() == 1 and whale.argmax() == 2


def test_every_word_of_the_prompts_is_one_token(pipe):
    words = {word for prompt in PROMPTS for word in prompt.split()}
    assert all(len(pipe.tokenizer(word).input_ids) == 3 for word in words)  # begin, word, end
