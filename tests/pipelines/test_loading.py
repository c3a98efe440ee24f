"""One loader for every checkpoint that ships, of diffusers' classes and of ours."""

import json
import shutil

import diffusers
import pytest
import torch

from diffusion_guidance import assets_folder, load_pipeline
from diffusion_guidance.pipelines import ClassConditionalPipeline
from diffusion_guidance.worlds.shipped import WORLDS, shipped_path


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("digits", ClassConditionalPipeline),
        ("shapes", diffusers.StableDiffusion3Pipeline),
        ("emoji", diffusers.StableDiffusion3Pipeline),
    ],
)
def test_what_ships_loads_without_an_argument_from_any_folder(name, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipe = load_pipeline(f"assets/{name}", device="cpu")
    assert type(pipe) is kind
    assert pipe.transformer.dtype == torch.float32
    assert load_pipeline(assets_folder() / name, torch.float16, "cpu").transformer.dtype == torch.float16


def test_every_checkpoint_of_a_pipeline_is_a_world():
    assert sorted(path.parent.name for path in assets_folder().glob("*/model_index.json")) == sorted(WORLDS)


def test_a_folder_that_is_there_is_not_replaced_by_what_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped_path("assets/digits") == str(assets_folder() / "digits")
    (tmp_path / "assets" / "digits").mkdir(parents=True)
    assert shipped_path("assets/digits") == "assets/digits"
    assert shipped_path("some/model") == "some/model"
    assert shipped_path("assets/nonesuch") == "assets/nonesuch"
    with pytest.raises(ValueError, match="cannot load a pipeline from 'assets/digits'"):
        load_pipeline("assets/digits")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (["pipeline.py", "Pipeline"], "code of its own; it is not run"),
        ("NonesuchPipeline", "neither diffusers nor this package has a pipeline 'NonesuchPipeline'"),
        (None, "code of its own"),
    ],
)
def test_a_class_that_is_not_known_is_refused(name, message, tmp_path):
    shutil.copytree(assets_folder() / "digits", tmp_path / "digits")
    index = tmp_path / "digits" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": name}))
    (tmp_path / "digits" / "pipeline.py").write_text("raise AssertionError('run')\n")
    with pytest.raises(ValueError, match=message):
        load_pipeline(tmp_path / "digits")
