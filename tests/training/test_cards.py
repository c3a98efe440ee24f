"""The cards that ship: front matter that the hub reads, and the text that the training scripts write today."""

import json
import re
from pathlib import Path

import pytest
import yaml

from diffusion_guidance.worlds.shapes_model import write_card
from scripts.training import digits, emoji, emoji_judge, encoder, shapes


ASSETS = Path(__file__).parents[2] / "assets"
#: Folder -> the text of its card, where it is a constant, and its front matter.
CARDS = {
    "digits": (digits.CARD, digits.DATA),
    "digits-classifier": (None, digits.CLASSIFIER),
    "digits-judge": (None, digits.CLASSIFIER),
    "digits-weak": (digits.WEAK_CARD, digits.DATA),
    "emoji": (emoji.CARD, emoji.DATA),
    "emoji-judge": (emoji_judge.CARD, emoji_judge.DATA),
    "patch-encoder": (encoder.CARD, encoder.DATA),
    "shapes": (shapes.CARD, shapes.DATA),
    "shapes-classifier": (None, shapes.CLASSIFIER),
}


def test_every_checkpoint_has_a_card():
    assert {path.parent.name for path in ASSETS.glob("*/README.md")} == set(CARDS)
    assert {path.name for path in ASSETS.iterdir() if path.is_dir()} == set(CARDS)


@pytest.mark.parametrize("name", CARDS)
def test_a_card_is_what_its_script_writes(name, tmp_path):
    card = (ASSETS / name / "README.md").read_text(encoding="utf-8")
    _, front, body = card.split("---\n", 2)
    found = yaml.safe_load(front)
    assert {"license", "language", "library_name", "pipeline_tag", "tags"} <= set(found)
    assert found["library_name"] in ("diffusers", "diffusion-guidance")
    facts = json.loads(re.search(r"```json\n(.*?)```\n$", card, flags=re.S)[1])
    text, data = CARDS[name]
    write_card(tmp_path, body.split("\n\n```json")[0].strip() if text is None else text, facts, **data)
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == card
