"""The judge of the emoji world: what it reads, and that what ships fits the checkpoint."""

import json
import re
from pathlib import Path

import pytest
import torch

from diffusion_guidance.worlds.emoji import PROMPTS, STYLES
from diffusion_guidance.worlds.emoji_judge import EmojiJudge
from diffusion_guidance.worlds.emoji_measure import aligned, caption


FOLDER = Path(__file__).parents[2] / "assets" / "emoji-judge"


def test_alignment_is_the_name_and_the_style_of_the_heads():
    torch.manual_seed(0)
    judge = EmojiJudge(["3d cat", "noto dog", "flat red apple"], ["3d dog"], width=48).eval()
    images = torch.rand(6, 3, 64, 64)
    with torch.no_grad():
        names, styles = (logits.argmax(-1) for logits in judge(images))
    assert judge.names == ["cat", "dog", "red apple"]
    read = [f"{list(STYLES)[style]} {judge.names[name]}" for name, style in zip(names, styles, strict=True)]
    found = aligned(judge, images, read)
    assert found["alignment"].all() and found["features"].shape == (6, 48)
    other = {"3d": "flat", "flat": "noto", "noto": "twemoji", "twemoji": "3d"}
    turned = [f"{other[one.split()[0]]} {one.split(' ', 1)[1]}" for one in read]
    found = aligned(judge, images, turned)
    assert found["name"].all() and not found["style"].any() and not found["alignment"].any()
    with pytest.raises(ValueError, match="does not know 'noto horse'"):
        aligned(judge, images[:1], ["noto horse"])
    with pytest.raises(ValueError, match=r"\(B, 3, 64, 64\) in \[0, 1\]"):
        judge(torch.rand(1, 3, 32, 32))
    assert [caption(judge, seed) for seed in (0, 2, 4)] == ["3d cat", "flat red apple", "noto dog"]


def test_what_ships_fits_the_checkpoint_and_says_how_well_it_reads():
    judge = EmojiJudge.from_pretrained(FOLDER)
    captions, held_out = set(judge.config.captions), set(judge.config.held_out)
    assert (len(captions), len(held_out), len(judge.names)) == (2289, 95, 607)
    assert not captions & held_out and {one.split(" ", 1)[1] for one in held_out} <= set(judge.names)
    judge.labels(PROMPTS)  # all are known
    card = json.loads(re.search(r"```json\n(.*)```", (FOLDER / "README.md").read_text(), flags=re.S)[1])
    # Styles are read less well than names: the card says so, and docs/emoji.md compares rows with it, not with 1.
    read = card["reconstructed"]
    assert read["name"] > 0.9 and read["both"] <= min(read["name"], read["style"]) and read["both"] > 0.75
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 9e6
