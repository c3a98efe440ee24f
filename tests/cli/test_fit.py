"""`fit` prints a line that `generate` takes, and a plot."""

import re

import pytest

from diffusion_guidance import parse_guidance
from diffusion_guidance.cli.command import main

from ..tiny import PROMPTS, tiny_sd3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sd3")
    tiny_sd3().save_pretrained(folder)
    return str(folder)


def arguments(checkpoint, tmp_path, *more):
    call = ("--call", "max_sequence_length=2", "--call", "height=16", "--call", "width=16")
    return ["fit", checkpoint, "--prompt", PROMPTS[0], "--steps", "3", "--runs", "1", *call,
            "--out", str(tmp_path / "fit.png"), *more]  # fmt: skip


def test_the_line_to_paste_is_one_that_commands_take(checkpoint, tmp_path, capsys):
    assert main(arguments(checkpoint, tmp_path, "--weight", "4")) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    (line,) = re.findall(r"--guidance (\S+)", printed)
    callback = parse_guidance(line)
    assert type(callback).__name__ in ("CFG", "RAAG")
    assert "The ratio is" in printed and (tmp_path / "fit.png").stat().st_size > 1000


def test_weights_are_compared_by_their_error(checkpoint, tmp_path, capsys):
    assert main(arguments(checkpoint, tmp_path, "--weight", "4", "--weights", "1.5,4,9")) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "error of the conditional prediction" in printed and "The accumulated error is least at" in printed
    assert (tmp_path / "fit-weights.png").stat().st_size > 1000


def test_without_guidance_there_is_nothing_to_fit(checkpoint, tmp_path, capsys):
    assert main(arguments(checkpoint, tmp_path, "--weight", "1")) == 2
    assert "ran without the unconditional pass" in capsys.readouterr().err
