"""What is measured of a folder depends on its images alone: not on kills of what drew them, and not on junk."""

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffusion_guidance.core.files import TEMPORARY
from diffusion_guidance.evaluation import Extractor, ImageSet, Reference, estimates_row, load_side, summarise

from ..tiny import tiny_dit
from .commands import finish, start


KILLS, SEEDS = 10, 24
PATCHES = Extractor("patches", lambda images: torch.nn.functional.avg_pool2d(images, 8).flatten(1))
REFERENCE = Reference.of(torch.rand(60, 12, generator=torch.Generator().manual_seed(0)))


def score(folder: Path, out: Path) -> float:
    return estimates_row(summarise(load_side(folder, PATCHES, out), REFERENCE, ["frechet"]))["frechet"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Images of a run that nothing disturbed, of one that was killed ten times, and of one that was not finished."""
    root = tmp_path_factory.mktemp("kills")
    tiny_dit().save_pretrained(root / "dit")
    whole, killed, part = root / "whole", root / "killed", root / "part"
    arguments = ["generate", root / "dit", "--classes", "1,2", "--pair", "--steps", 2, "--batch-size", 1]
    arguments += ["--guidance", "trace", "--seeds", f"0-{SEEDS - 1}", "--out"]
    undisturbed = start([*arguments, whole], root / "output")
    assert finish(undisturbed) == 0, (root / "output").read_text()
    moments = random.Random(0)
    for kill in range(KILLS):
        before = len(list(killed.glob("[0-9]*.png")))
        process = start([*arguments, killed], root / "output")
        while process.is_alive() and len(list(killed.glob("[0-9]*.png"))) < min(before + 1, 2 * kill + 1):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.03))
        process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL, (root / "output").read_text()
    (killed / f"{TEMPORARY}left.png").write_bytes((killed / "000000.png").read_bytes()[:-20])
    shutil.copytree(killed, part)
    last = start([*arguments, killed], root / "output")
    assert finish(last) == 0, (root / "output").read_text()
    return whole, killed, part


def test_ten_kills_change_no_score(folders, tmp_path):
    whole, killed, _ = folders
    names = [path.name for path in sorted(whole.iterdir())]
    assert names == [*(f"{seed:06d}.png" for seed in range(SEEDS)), "settings.json"]
    assert [path.name for path in sorted(killed.iterdir())] == names  # no temporary file, no lock
    assert all((whole / name).read_bytes() == (killed / name).read_bytes() for name in names[:-1])
    assert score(killed, tmp_path / "killed") == score(whole, tmp_path / "whole")


def test_an_unfinished_folder_scores_as_its_whole_images(folders, tmp_path):
    whole, _, part = folders
    names = sorted(path.name for path in part.glob("[0-9]*.png"))
    assert 1 < len(names) < SEEDS and list(part.glob(f"{TEMPORARY}*"))
    (tmp_path / "same").mkdir()
    for name in names:
        shutil.copy(whole / name, tmp_path / "same")
    assert len(ImageSet(part)) == len(names)
    assert score(part, tmp_path / "part") == score(tmp_path / "same", tmp_path / "out")


def test_the_trace_of_a_killed_run_is_that_of_a_whole_one(folders):
    whole, killed, _ = folders
    texts = [(folder.with_name(f"{folder.name}-trace") / "trace.json").read_text() for folder in (whole, killed)]
    assert f'"{SEEDS - 1:06d}.png"' in texts[0] and texts[0] == texts[1]


def test_junk_changes_no_score(folders, tmp_path):
    images = tmp_path / "images"
    shutil.copytree(folders[0], images)
    before = score(images, tmp_path / "before")
    count = len(ImageSet(images))
    plain = Image.new("RGB", (16, 16), (255, 0, 0))
    for name in (".hidden.png", "._000000.png", f"{TEMPORARY}killed.png", "trace.png", "samples.png", "other.bmp"):
        plain.save(images / name)
    for name in ("notes.txt", "trace.json", "report.json", "weights.safetensors", "Thumbs.db"):
        (images / name).write_text("{}")
    (images / "link.png").symlink_to("000000.png")
    os.link(images / "000001.png", images / "zzz.png")
    (images / "000002").symlink_to(images)  # a folder that holds itself
    assert len(ImageSet(images)) == count == SEEDS
    assert score(images, tmp_path / "after") == before
