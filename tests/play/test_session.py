"""A press of Draw: from values of the page to images that say how they were drawn, or to one sentence."""

import json
from pathlib import Path

import pytest
from PIL import Image

from diffusion_guidance import load_pipeline
from diffusion_guidance.cli.command import main
from diffusion_guidance.cli.play import explain
from diffusion_guidance.play.fields import methods
from diffusion_guidance.play.request import Checkpoint
from diffusion_guidance.play.session import Column, Studio

from .small import PROMPT, SHAPES


LEFT, RIGHT = Column("cfg", ["4", 0, "", 0, 1]), Column("raag", [5, 2, 0, 1])


@pytest.fixture(scope="module")
def studio(shapes, tmp_path_factory):
    return Studio(shapes, SHAPES, methods(), explain, 3.0, folder=tmp_path_factory.mktemp("play"))


def test_all_that_is_shown(studio):
    *before, last = studio.draw(PROMPT, 5, 2, 3, [LEFT, RIGHT])
    assert [each.status for each in before][:2] == ["waiting for the first step", "drawing the left image: step 1 of 2"]
    assert all(each.plot is None and each.python and each.command for each in before)
    assert last.status == "done" and not last.failed and last.plot is not None
    assert last.captions == ("2 evaluations", "2 evaluations")
    assert "CFG(weight=4)" in last.python and "--guidance raag:w_max=5.0,alpha=2.0" in last.command
    assert [Path(path).name for path in last.images] == ["000005.png"] * 2


def test_an_image_says_how_it_was_drawn(studio, capsys):
    *_, last = studio.draw(PROMPT, 5, 2, 3, [LEFT, RIGHT])
    record = json.loads(Image.open(last.images[1]).info["diffusion-guidance"])
    assert record["condition"] == PROMPT and record["guidance"][0]["w_max"] == 5
    assert main(["verify", last.images[1], "assets/shapes", "--device", "cpu"]) == 0
    assert "equal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((" ", 0, 2, 3, [LEFT, RIGHT]), "write a prompt first"),
        ((PROMPT, None, 2, 3, [LEFT, RIGHT]), "seed must be a whole number"),
        ((PROMPT, 0, 2, 3, [LEFT, Column("raag", [5, -1, 0, 1])]), "right: RAAG needs a finite w_max and alpha >= 0"),
        ((PROMPT, 0, 2, 3, [Column("cfg", ["4", 3, "", 0, 1]), RIGHT]), "left: rescale must be in [0, 1], got 3.0"),
        ((PROMPT, 0, 2, 3, [Column("none", [], "nothing"), RIGHT]), "left: unknown guidance 'nothing'"),
        ((PROMPT, 0, 2, 3, [LEFT, Column("nag", ["dark", 5, 2.5, 0.25, 0, 1])]), "NAG"),
        ((PROMPT, 0, 2, 0.5, [LEFT, RIGHT]), "guidance_scale"),
    ],
)
def test_bad_settings_are_one_sentence(studio, given, sentence):
    *_, last = studio.draw(*given)
    assert last.failed and last.plot is None
    assert sentence in last.status and "\n" not in last.status and "Traceback" not in last.status


def test_a_fault_of_the_program_is_said_to_be_one(studio, monkeypatch, caplog):
    def broken(*_):
        raise KeyError("x")

    monkeypatch.setattr("diffusion_guidance.play.session.draw", broken)
    *_, last = studio.draw(PROMPT, 0, 2, 3, [LEFT, RIGHT])
    assert last.failed and "please report it: KeyError" in last.status and "Traceback" in caplog.text


def test_classes_in_the_place_of_prompts(tmp_path):
    pipe = load_pipeline("assets/digits", device="cpu")
    checkpoint = Checkpoint("assets/digits", device="cpu")
    studio = Studio(pipe, checkpoint, methods(), explain, None, classes=True, folder=tmp_path)
    *_, last = studio.draw("3", 0, 2, None, [LEFT, Column("none", [])])
    assert last.status == "done" and "class_labels=[3]" in last.python
    *_, last = studio.draw("three", 0, 2, None, [LEFT, RIGHT])
    assert last.status == "write the number of a class, got 'three'"
