"""The code to copy draws exactly what was shown."""

import shlex

import pytest
from PIL import Image

from diffusion_guidance import CFG, RAAG, DiffIER, parse_guidance, to_config
from diffusion_guidance.cli.command import main
from diffusion_guidance.core.kinds import known_kinds
from diffusion_guidance.play.drawing import draw
from diffusion_guidance.play.fields import OWN, methods
from diffusion_guidance.play.request import Checkpoint, short_form

from .small import request


CASES = [
    request(3),
    request(4, [[], [RAAG(5.0, 2.0), DiffIER(objective="renoise", step_size=0.1)]]),
    request(5, [[CFG([4.0, 3.0], stop=0.7)], [RAAG(5.0, 2.0, start=0.4)]], condition='a "quoted" $HOME \\ prompt'),
]


def images(shapes, asked):
    return [each.image for each in draw(shapes, asked) if each.trace is not None]


@pytest.mark.parametrize("asked", CASES, ids=["two", "own", "quotes"])
def test_python_and_command_line_draw_what_is_shown(asked, shapes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = [image.tobytes() for image in images(shapes, asked)]
    assert shown[0] != shown[1]
    exec(asked.python(), {})
    assert [Image.open(f"{name}.png").tobytes() for name in "ab"] == shown
    for line in asked.command().splitlines():
        name, *arguments = shlex.split(line)
        assert name == "diffusion-guidance" and main(arguments) == 0
    assert [Image.open(f"out/{name}/{asked.seed:06d}.png").tobytes() for name in "ab"] == shown


@pytest.mark.parametrize("method", [name for name in methods() if name != OWN])
def test_the_short_form_is_read_back(method):
    callback = known_kinds()[method](start=0.25, stop=0.75)
    text = short_form(callback)
    assert to_config(parse_guidance(text)) == to_config(callback) and "start=0.25" in text


def test_number_format_device_and_class_are_said():
    asked = request(condition=7)
    asked = type(asked)(Checkpoint("x", "bfloat16", "cuda:1"), 7, 0, 2, None, asked.guidance)
    assert "load_pipeline('x', dtype='bfloat16', device='cuda:1')" in asked.python()
    assert "class_labels=[7]" in asked.python() and "guidance_scale" not in asked.python()
    assert "--classes 7" in asked.command() and "--dtype bfloat16 --device cuda:1" in asked.command()


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"condition": ""}, "write a prompt"),
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": 1.5}, "seed must be"),
        ({"steps": 0}, "steps must be a whole number from 1"),
        ({"steps": 10**6}, "steps must be"),
        ({"steps": None}, "got None"),
    ],
)
def test_what_cannot_be_asked_is_a_sentence(bad, sentence):
    with pytest.raises(ValueError, match=sentence):
        request(**bad)
