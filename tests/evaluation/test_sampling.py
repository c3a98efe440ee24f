import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import diffusion_guidance.cli.generate as script
from diffusion_guidance import RAAG, load_pipeline
from diffusion_guidance.evaluation.sampling import (
    Job,
    generate,
    keep_settings,
    parse_seeds,
    plan,
    sample,
)

from ..tiny import PROMPTS, tiny_dit, tiny_sd3


COMMAND = [sys.executable, "-m", "diffusion_guidance", "generate"]
CALL = {"num_inference_steps": 2, "max_sequence_length": 1}


@pytest.fixture(scope="module")
def pipe():
    return tiny_sd3()


@pytest.fixture(scope="module")
def checkpoint(pipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    pipe.save_pretrained(folder)
    return folder


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_a_picture_depends_on_its_seed_not_on_its_batch(pipe, tmp_path):
    for size in (1, 2, 3):
        pictures = plan(PROMPTS[:1], range(5), tmp_path / str(size))
        assert len(list(generate(pipe, pictures, [RAAG(5, 2)], batch_size=size, **CALL))) == 5
    for seed in range(5):
        one, *others = (pixels(tmp_path / str(size) / f"{seed:06d}.png") for size in (1, 2, 3))
        for other in others:  # rounding may move a value over the edge between two of 256 levels
            assert np.abs(one - other).max() <= 1
    assert np.abs(pixels(tmp_path / "1" / "000000.png") - pixels(tmp_path / "1" / "000001.png")).max() > 10


def test_existing_pictures_are_skipped_and_the_rest_drawn(pipe, tmp_path):
    pictures = plan(PROMPTS, range(2), tmp_path)
    first = next(generate(pipe, pictures, [], batch_size=1, **CALL))
    stamp = first.stat().st_mtime_ns
    rest = list(generate(pipe, pictures, [], batch_size=4, **CALL))
    assert len(rest) == 3 and first not in rest and first.stat().st_mtime_ns == stamp
    assert list(generate(pipe, pictures, [], **CALL)) == []


def test_class_ids_go_to_a_class_conditional_pipeline(tmp_path):
    pictures = plan([0, 1], range(2), tmp_path, pair=True)
    assert [picture.condition for picture in pictures] == [0, 1]
    assert len(list(generate(tiny_dit(), pictures, [RAAG(5, 2)], num_inference_steps=2))) == 2


def test_the_plan_names_files_by_seed(tmp_path):
    assert plan(["a"], [3], tmp_path) == [Job(3, "a", tmp_path / "000003.png")]
    crossed = plan(["a", "b"], [3, 4], tmp_path)
    assert [p.path.relative_to(tmp_path).as_posix() for p in crossed] == [
        "000/000003.png",
        "000/000004.png",
        "001/000003.png",
        "001/000004.png",
    ]
    paired = plan(["a", "b"], [3, 4, 5], tmp_path, pair=True)
    assert [(p.seed, p.condition) for p in paired] == [(3, "a"), (4, "b"), (5, "a")]


@pytest.mark.parametrize("text, seeds", [("7", [7]), ("0-3", [0, 1, 2, 3]), ("0-1, 5,7-8", [0, 1, 5, 7, 8])])
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3-1", "-3", "1-", "0-3,2"])
def test_bad_seeds_are_refused(text):
    with pytest.raises(ValueError, match="seeds"):
        parse_seeds(text)


def test_a_folder_keeps_to_its_settings(tmp_path):
    keep_settings(tmp_path, {"steps": 5, "guidance": []})
    keep_settings(tmp_path, {"steps": 5, "guidance": []})
    with pytest.raises(ValueError, match="made with another steps"):
        keep_settings(tmp_path, {"steps": 6, "guidance": []})
    assert "torch" in json.loads((tmp_path / "settings.json").read_text())["versions"]


def test_an_unreadable_checkpoint_is_one_clear_error(tmp_path, checkpoint):
    with pytest.raises(ValueError, match="cannot load a pipeline from"):
        load_pipeline(str(tmp_path))
    broken = tmp_path / "broken"
    subprocess.run(["cp", "-r", checkpoint, broken], check=True)
    (broken / "transformer" / "diffusion_pytorch_model.safetensors").write_bytes(b"not a file of weights")
    with pytest.raises(ValueError, match="cannot load a pipeline from"):
        load_pipeline(str(broken))


def run_script(*arguments) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True)


def test_the_script_draws_resumes_and_keeps_its_configuration(checkpoint, tmp_path):
    arguments = [checkpoint, "--prompt", PROMPTS[0], "--seeds", "0-2", "--steps", 2, "--out", tmp_path / "out"]
    arguments += ["--guidance", "raag:w_max=5,alpha=2", "--guidance", "trace", "--call", "max_sequence_length=1"]
    first = run_script(*arguments)
    assert first.returncode == 0, first.stderr
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["000000.png", "000001.png", "000002.png", "settings.json", "trace.json", "trace.png"]
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["guidance"][0]["w_max"] == 5 and settings["call"]["num_inference_steps"] == 2
    (tmp_path / "out" / "000001.png").unlink()
    assert "1 pictures drawn, 2 were there already" in run_script(*arguments).stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--prompt", "x", "--steps", "-3"], "--steps and --batch-size must be at least 1"),
        (["--prompt", "x", "--guidance", "magic"], "unknown guidance 'magic'"),
        (["--prompt", "x", "--seeds", "9-1"], "cannot read seeds"),
        (["--prompts", "no-such-file.txt"], "no-such-file.txt"),
        (["--prompt", "x"], "cannot load a pipeline from"),
        ([], "one of the arguments --prompt --prompts --classes is required"),
    ],
)
def test_bad_arguments_exit_with_2_and_one_sentence(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["generate.py", str(tmp_path / "nothing"), *arguments])
    with pytest.raises(SystemExit) as stop:
        script.main()
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and "Traceback" not in error


def test_evaluations_of_the_network_are_counted(pipe):
    def again(step, proceed):
        step.denoise(step.sample, step.timestep)
        return proceed(step)

    call = CALL | {"output_type": "latent", "guidance_scale": 3.0}
    plain, evaluations = sample(pipe, PROMPTS, [5, 6], [], **call)
    assert (plain.images.shape[0], evaluations) == (2, 2)
    other, evaluations = sample(pipe, PROMPTS, [5, 6], [again], **call)
    assert evaluations == 4 and (other.images == plain.images).all()
