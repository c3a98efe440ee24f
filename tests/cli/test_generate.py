"""`generate` draws, goes on, keeps its settings, and takes every kind of guidance."""

import json

import pytest

from diffusion_guidance import CFG, save_guidance
from diffusion_guidance.cli.command import main

from ..tiny import PROMPTS, tiny_sd3


OWN = """
from diffusers.configuration_utils import register_to_config
from diffusion_guidance import Callback


class Twice(Callback):
    @register_to_config
    def __init__(self, factor: float = 2.0):
        super().__init__()
        self.factor = factor

    def guide(self, step, proceed):
        return self.factor * proceed(step)
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_sd3().save_pretrained(folder)
    return folder


@pytest.fixture
def draw(checkpoint, tmp_path, capsys):
    """Run the command; (exit code, stdout, stderr, folder)."""

    def run(*arguments, out="out"):
        call = [checkpoint, "--prompt", PROMPTS[0], "--steps", 2, "--call", "max_sequence_length=1", *arguments]
        code = main(["generate", *map(str, call), "--out", str(tmp_path / out)])
        return (code, *capsys.readouterr(), tmp_path / out)

    return run


def test_it_draws_resumes_and_keeps_its_configuration(draw):
    arguments = ["--seeds", "0-2", "--guidance", "raag:w_max=5,alpha=2", "--guidance", "trace"]
    code, _, err, out = draw(*arguments)
    assert code == 0, err
    names = {path.name for path in out.iterdir() if not path.name.startswith(".")}
    assert {"000000.png", "000001.png", "000002.png", "settings.json"} <= names
    settings = json.loads((out / "settings.json").read_text())
    assert settings["guidance"][0]["w_max"] == 5 and settings["call"]["num_inference_steps"] == 2
    (out / "000001.png").unlink()
    assert "1 images drawn, 2 were there already" in draw(*arguments)[1]


def test_guiders_of_diffusers_have_their_own_names(draw):
    text = "adaptiveprojectedguidance:guidance_scale=5,adaptive_projected_guidance_momentum=null"
    code, _, err, out = draw("--guidance", text)
    assert code == 0, err
    (entry,) = json.loads((out / "settings.json").read_text())["guidance"]
    assert entry["callback"] == "GuiderCallback"
    assert entry["guider"]["_class_name"] == "AdaptiveProjectedGuidance"
    assert entry["guider"]["guidance_scale"] == 5


def test_a_class_of_the_users_own_in_the_working_directory(draw, tmp_path, monkeypatch):
    (tmp_path / "mine_of_test.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    code, _, err, out = draw("--guidance", "mine_of_test:Twice:factor=1.5")
    assert code == 0, err
    assert json.loads((out / "settings.json").read_text())["guidance"] == [{"callback": "Twice", "factor": 1.5}]


def test_a_file_of_guidance_is_the_same_as_its_short_form(draw, tmp_path):
    path = save_guidance(tmp_path / "g.json", CFG(3.0))
    assert draw("--guidance-file", path, out="file")[0] == 0
    assert draw("--guidance", "cfg:weight=3.0", out="text")[0] == 0
    assert (tmp_path / "file" / "000000.png").read_bytes() == (tmp_path / "text" / "000000.png").read_bytes()


def test_an_interrupt_is_130(draw, monkeypatch):
    import diffusion_guidance.evaluation.sampling as sampling

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(sampling, "generate", interrupted)
    code, _, err, _ = draw()
    assert code == 130
    assert err.endswith("diffusion-guidance generate: interrupted; the same command resumes where it stopped\n")


def test_a_fault_of_ours_is_not_called_bad_input(draw, monkeypatch):
    import diffusion_guidance.evaluation.sampling as sampling

    def broken(*_, **__):
        raise AttributeError("a fault")

    monkeypatch.setattr(sampling, "plan", broken)
    with pytest.raises(AttributeError, match="a fault"):
        draw()
