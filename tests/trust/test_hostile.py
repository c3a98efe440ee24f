"""Every command and every loader of ours, over hostile folders: nothing runs, and each refusal is one sentence."""

import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from diffusion_guidance import assets_folder, load_guidance, load_pipeline
from diffusion_guidance.cli.command import main
from diffusion_guidance.core.configuration import load_accompanying
from diffusion_guidance.detection.threshold import Calibration
from diffusion_guidance.evaluation import load_reference, load_side, read_report
from diffusion_guidance.evaluation.metrics.moments import Moments
from diffusion_guidance.networks.classifiers import load_classifier
from diffusion_guidance.networks.encoders import load_encoder
from diffusion_guidance.networks.extractors import load_extractor
from diffusion_guidance.networks.patch_encoder import PatchEncoder
from diffusion_guidance.networks.weights import read_weights
from diffusion_guidance.pipelines import GuidedDiTPipeline
from diffusion_guidance.worlds import DigitsClassifier, ShapesClassifier

from ..tiny import tiny_dit
from .hostile import KINDS, MODULE, code, prepare


ASSETS = assets_folder()
LOADED = (GuidedDiTPipeline, PatchEncoder, DigitsClassifier, ShapesClassifier)
DRAW = ("--classes", "0", "--seeds", "0", "--steps", "1")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    pipe = tiny_dit()
    GuidedDiTPipeline(pipe.transformer, pipe.vae, pipe.scheduler).save_pretrained(folder)
    return folder


@pytest.fixture(params=KINDS)
def folder(request, checkpoint, tmp_path, monkeypatch) -> Iterator[Path]:
    """A hostile folder, which is the working directory and on the path; afterwards nothing of it has run."""
    folder, canary = tmp_path / "hostile", tmp_path / "canary"
    shutil.copytree(checkpoint, folder)
    prepare(folder, canary)
    KINDS[request.param](folder, canary)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # or each missing file is looked for there
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115 - some libraries ask whether to run code
    yield folder
    assert not canary.exists()
    assert MODULE not in sys.modules


def names(folder: Path, *suffixes: str) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in suffixes)


def commands(folder: Path) -> Iterator[tuple]:
    """Every command, with every file of the folder in every place that takes a file."""
    out = folder.parent / "out"
    yield "describe", folder
    yield "fit", folder, "--classes", "0", "--steps", "2", "--runs", "1", "--out", out / "fit.png"
    yield "generate", folder, *DRAW, "--out", out / "generate"
    yield "generate", folder, *DRAW, "--trust-guidance", "--out", folder / "run"
    yield "evaluate", "run", folder, *DRAW, "--trust-guidance", "--extractor", "digits", "--out", out / "run"
    yield "evaluate", "run", folder, *DRAW, "--extractor", "digits", "--out", folder / "run"
    sweep = ("--weights", "2", "--method", "none", "--extractor", "digits")
    yield "evaluate", "sweep", folder, *DRAW, *sweep, "--out", out / "sweep"
    yield "calibrate", folder, "--samples", 2, "--steps", 1, "--out", out / "c.json", "--work", out / "work"
    local = ("--encoder", f"local:{folder}")
    yield "detect", "score", folder / "images", *local, "--out", out / "scores.csv"
    yield "detect", "calibrate", folder / "images", *local, "--out", out / "detector.json"
    shipped = ("--encoder", f"local:{ASSETS / 'patch-encoder'}")
    yield "detect", "score", folder, *shipped, "--out", out / "shipped.csv"
    yield "detect", "score", folder / "images", *shipped, "--out", folder / "table.csv"
    if (folder / "demo").is_dir():
        yield "demo", "--samples", 2, "--columns", 1, "--out", folder / "demo"
    for file in (*names(folder, ".json"), folder / "classes.txt"):
        yield "generate", ASSETS / "digits", *DRAW, "--guidance-file", file, "--out", out / "file"
        yield "detect", "score", folder / "images", *shipped, "--calibration", file
    for file in (*names(folder, ".npz", ".safetensors"), folder / "run", folder / "images", folder):
        yield "evaluate", "score", folder / "images", file, "--extractor", "digits", "--out", out / f"score-{file.name}"
    for file in names(folder, ".pt", ".bin"):
        yield "evaluate", "score", folder / "images", folder / "images", "--extractor", f"dinov2:{file}", "--out", out
        yield "detect", "score", folder / "images", "--encoder", f"torchvision:resnet18:{file}"
        yield "calibrate", ASSETS / "digits", f"torchvision:resnet18:{file}", "--out", out / "c.json", "--work", out


def test_no_command_runs_anything(folder, capfd):
    for arguments in commands(folder):
        ended = main([*map(str, arguments)])
        printed = capfd.readouterr().err
        assert ended in (0, 2, 3), (arguments, ended, printed)
        assert "Traceback" not in printed
        last = printed.strip().splitlines()[-1:]
        assert ended != 2 or last[0].startswith(f"diffusion-guidance {arguments[0]}: "), printed


def loaders(folder: Path) -> Iterator[Callable[[], object]]:
    """Every function of ours that is given the name of a file or folder."""
    for trust in (False, True):
        yield lambda: load_pipeline(folder, trust_guidance=trust)  # noqa: B023 - called at once
    yield lambda: load_accompanying(folder / "guidance.json")
    yield lambda: load_accompanying(folder / "guidance.json", trust_guidance=True)
    for file in names(folder, ".json"):
        for load in (load_guidance, Calibration.load, read_report):
            yield lambda: load(file)  # noqa: B023
    places = (*names(folder, ".npz", ".safetensors", ".pt", ".bin"), folder / "run", folder / "images", folder)
    for file in places:
        yield lambda: load_reference(file, None, folder / "features")  # noqa: B023
        yield lambda: load_side(file, None, folder / "features")  # noqa: B023
        yield lambda: Moments.load(file)  # noqa: B023
        yield lambda: read_weights(file)  # noqa: B023
        for load in (load_classifier, load_encoder, load_extractor):
            yield lambda: load(f"torchvision:resnet18:{file}")  # noqa: B023
    for load in (load_classifier, load_encoder, load_extractor):
        for name in (f"{MODULE}.Model", "transformers.AutoModel", "diffusers.AutoModel", "diffusers.AutoencoderKL"):
            for place in (folder, folder / "transformer", folder / "net"):
                yield lambda: load(f"pretrained:{name}:{place}")  # noqa: B023
        for form in ("timm:vit_tiny_patch16_224", "open_clip:ViT-S-32-alt"):
            yield lambda: load(f"{form}:{folder / 'tower.pt'}")  # noqa: B023
        for form in (f"local:{folder}", f"timm:local-dir:{folder}", f"inception:{folder / 'tower.pt'}"):
            yield lambda: load(form)  # noqa: B023


def test_no_loader_runs_anything(folder):
    for load in loaders(folder):
        try:
            load()
        except ValueError as error:
            assert "\n" not in str(error)
    for cls in LOADED:
        for place in (folder, folder / "transformer"):
            try:
                cls.from_pretrained(place)
            except Exception as error:  # diffusers' own, of any kind
                assert str(error)


def test_there_are_enough_kinds():
    assert len(KINDS) >= 20


def test_the_canary_shows_what_runs(tmp_path):
    """Of the code, of the pickles and of the module: without it, the tests above could not fail."""
    canary = tmp_path / "canary"
    prepare(tmp_path, canary)
    for run in (
        lambda: exec(code(canary)),
        lambda: pickle.loads((tmp_path / "tower.pt").read_bytes()),
        lambda: torch.load(tmp_path / "archive.pt", weights_only=False),
        lambda: subprocess.run([sys.executable, tmp_path / f"{MODULE}.py"], check=True, timeout=300),
    ):
        run()
        assert canary.exists()
        canary.unlink()
