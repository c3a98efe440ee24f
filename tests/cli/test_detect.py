"""The command line of detection: calibrate, score, go on after a kill, and the exit codes."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_guidance.cli import detect
from diffusion_guidance.cli.command import main
from diffusion_guidance.cli.failures import PARTLY
from diffusion_guidance.detection import rigid
from diffusion_guidance.detection.results import settings_path
from diffusion_guidance.images import reading
from diffusion_guidance.networks import encoders
from diffusion_guidance.networks.patch_encoder import PatchEncoder

from ..images.mutations import mutations


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An encoder and 80 images."""
    world, draw = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        PatchEncoder(filters=8).save_pretrained(world / "encoder")
    (world / "real").mkdir()
    for index in range(80):
        Image.fromarray(draw.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(world / "real" / f"{index:02}.png")
    return world


@pytest.fixture
def call(world, capfd):
    def run(*arguments) -> tuple[int, str, str]:
        encoder = () if "--encoder" in arguments else ("--encoder", f"local:{world}/encoder")
        code = main(["detect", *map(str, arguments), *encoder])
        sys.stdout.flush()
        return code, *capfd.readouterr()

    return run


def table(path: Path) -> list[dict]:
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def test_calibrate_then_score(world, tmp_path, call):
    code, out, _ = call("calibrate", world / "real", "--out", tmp_path / "c.json", "--draws", 2)
    assert code == 0
    assert out.startswith("threshold 0.")
    calibration = json.loads((tmp_path / "c.json").read_text())
    scores = sorted(float(row["score"]) for row in table(tmp_path / "c.scores.csv"))
    assert calibration["threshold"] == pytest.approx(np.quantile(scores, 0.05))
    assert calibration["samples"] == 80

    arguments = ("score", world / "real", "--calibration", tmp_path / "c.json")
    code, _, err = call(*arguments, "--out", tmp_path / "r.csv")  # draws come from the calibration
    rows = table(tmp_path / "r.csv")
    assert code == 0
    assert [float(row["score"]) for row in rows] == [float(row["score"]) for row in table(tmp_path / "c.scores.csv")]
    low, high = calibration["unsure"]
    for row in rows:
        score = float(row["score"])
        assert row["verdict"] == ("generated" if score < low else "real" if score > high else "unsure")
    assert {row["verdict"] for row in rows} >= {"real", "unsure"}
    assert f", {sum(row['verdict'] == 'unsure' for row in rows)} unsure\n" in err

    assert call(*arguments, "--out", tmp_path / "r.jsonl")[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [(line["path"], line["verdict"]) for line in lines] == [(row["path"], row["verdict"]) for row in rows]
    assert list(csv.DictReader(call(*arguments)[1].splitlines())) == rows  # without --out, printed


def test_cautions_are_printed_and_kept(world, tmp_path, call):
    _, out, err = call("calibrate", world / "real", "--out", tmp_path / "c.json")
    calibration = json.loads((tmp_path / "c.json").read_text())
    assert [check["samples"] for check in calibration["sanity"]] == [40] * 3  # every second image
    assert all(check["images"] in out for check in calibration["sanity"])
    assert calibration["images"] == {"formats": ["PNG"], "pixels": [480, 480]}
    said = calibration["cautions"]
    assert "not the paper's (DINOv2" in said[0]
    assert all(f"caution: {caution}\n" in err for caution in said)

    other = tmp_path / "in"
    other.mkdir()
    for name, size in (("a.png", (24, 20)), ("b.png", (60, 60)), ("c.jpg", (24, 20)), ("d.jpg", (60, 60))):
        Image.linear_gradient("L").resize(size).save(other / name)
    different = "3 of 4 images differ in format or size from those of the calibration (PNG, 480 pixels)"
    for name, options in (("plain", ()), ("judged", ("--calibration", tmp_path / "c.json"))):
        for _ in range(2):  # the second goes on, and says the same
            code, _, err = call("score", other, "--out", tmp_path / f"{name}.csv", *options)
            notes = json.loads((tmp_path / f"{name}.csv.json").read_text())["notes"]
            assert code == 0 and notes["reading"] == calibration["reading"]
            found = notes["cautions"]
            assert all(f"caution: {caution}\n" in err for caution in found)
            assert found[:-1] == said if options else found == said[:1]
            assert found[-1].startswith(different) == bool(options)


def test_a_calibration_of_another_detector_is_refused(world, tmp_path, call):
    assert call("calibrate", world / "real", "--out", tmp_path / "c.json")[0] == 0
    code, _, err = call("score", world / "real", "--calibration", tmp_path / "c.json", "--noise", 0.1)
    assert code == 2
    assert "another noise" in err


def test_too_few_images_say_how_many(world, tmp_path, call):
    code, _, err = call("calibrate", world / "real" / "0*.png", "--out", tmp_path / "c.json")
    assert code == 2
    assert "at least 72" in err
    assert not (tmp_path / "c.json").exists()


def test_copies_of_an_image_count_once(world, tmp_path, call):
    (tmp_path / "in").mkdir()
    for index in range(80):
        (tmp_path / "in" / f"{index:02}.png").symlink_to(world / "real" / "00.png")
    for sources, distinct in (((tmp_path / "in",), 1), ((world / "real" / "0*.png",) * 8, 10)):
        code, _, err = call("calibrate", *sources, "--out", tmp_path / "c.json", "--overwrite")
        assert code == 2
        assert f"{80 - distinct} files are copies of others" in err
        assert f"{distinct} real images are too few" in err
        assert not (tmp_path / "c.json").exists()
    assert call("calibrate", world / "real", "--out", tmp_path / "once.json")[0] == 0
    assert call("calibrate", world / "real", world / "real", "--out", tmp_path / "twice.json")[0] == 0
    assert (tmp_path / "once.json").read_bytes() == (tmp_path / "twice.json").read_bytes()


def test_what_is_not_an_image_of_the_folder_changes_no_row(world, tmp_path, call):
    folder = tmp_path / "in"
    shutil.copytree(world / "real", folder)
    assert call("score", folder, "--out", tmp_path / "before.csv")[0] == 0
    for name in ("._00.png", ".hidden.png", ".diffusion-guidance-abc.png", "trace.png", "report.json", "grid.png"):
        shutil.copy(world / "real" / "00.png", folder / name)
    (folder / "trace.json").write_text("{}")
    assert call("score", folder, "--out", tmp_path / "after.csv")[0] == 0
    assert (tmp_path / "after.csv").read_bytes() == (tmp_path / "before.csv").read_bytes()


def test_constants_are_those_of_the_modules_that_use_them():
    assert detect.ENCODER == encoders.DEFAULT
    assert detect.METHODS == rigid.METHODS
    assert detect.MAX_PIXELS == reading.MAX_PIXELS


def test_500_damaged_files(tmp_path, call):
    """Each has its row, the run ends in the code for that, and --skip-errors makes it 0."""
    (tmp_path / "in").mkdir()
    for name, data in mutations(500, seed=0):
        (tmp_path / "in" / name).write_bytes(data)
    code, _, err = call("score", tmp_path / "in", "--out", tmp_path / "r.csv")
    rows = table(tmp_path / "r.csv")
    assert code == PARTLY
    assert [Path(row["path"]).name for row in rows] == sorted(os.listdir(tmp_path / "in"))
    assert all(bool(row["score"]) != bool(row["error"]) for row in rows)
    scored = sum(bool(row["score"]) for row in rows)
    assert 50 < scored < 450
    assert f"{500 - scored} not scored, {scored} scored" in err
    assert "Traceback" not in err
    before = (tmp_path / "r.csv").read_bytes()
    assert call("score", tmp_path / "in", "--out", tmp_path / "r.csv", "--skip-errors")[0] == 0
    assert (tmp_path / "r.csv").read_bytes() == before  # nothing was left to do
    assert call("score", tmp_path / "in", "--out", tmp_path / "r.csv", "--workers", 1, "--overwrite")[0] == 3
    assert (tmp_path / "r.csv").read_bytes() == before


def test_errors_stop_a_calibration(world, tmp_path, call):
    (tmp_path / "broken.png").write_text("x")
    sources = (world / "real", tmp_path / "broken.png")
    code, _, err = call("calibrate", *sources, "--out", tmp_path / "c.json")
    assert code == PARTLY
    assert "not an image in a known format" in err
    assert not (tmp_path / "c.json").exists()
    assert call("calibrate", *sources, "--out", tmp_path / "c.json", "--skip-errors")[0] == 0
    assert json.loads((tmp_path / "c.json").read_text())["samples"] == 80


def test_results_among_the_images_are_not_scored(tmp_path, call):
    Image.linear_gradient("L").resize((8, 8)).save(tmp_path / "a.png")
    for _ in range(2):
        assert call("score", tmp_path, "--out", tmp_path / "a.csv")[0] == 0
    assert len(table(tmp_path / "a.csv")) == 1


def test_files_that_were_changed_are_scored_again(tmp_path, call):
    (tmp_path / "in").mkdir()
    for name in "abcde":
        Image.linear_gradient("L").resize((9, 9)).save(tmp_path / "in" / f"{name}.png")
    arguments = ("score", tmp_path / "in", "--out", tmp_path / "r.csv", "--batch-size", 2)
    assert call(*arguments)[0] == 0
    before = table(tmp_path / "r.csv")
    noise = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "in" / "c.png")
    (tmp_path / "in" / "e.png").write_text("broken now")
    code, _, err = call(*arguments)
    after = table(tmp_path / "r.csv")
    assert code == PARTLY
    assert "2 batches have files that were changed" in err
    assert [before[i] == after[i] for i in range(5)] == [True, True, False, True, False]
    assert after[4]["error"] == "not an image in a known format"
    assert call(*arguments, "--overwrite")[0] == PARTLY
    assert table(tmp_path / "r.csv") == after  # as if it had been so from the beginning


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(world, tmp_path, call):
    paths = [world / "real"] * 6  # 480 files
    options = ["--encoder", f"local:{world}/encoder", "--batch-size", 4]
    out = tmp_path / "r.jsonl"
    command = [sys.executable, "-m", "diffusion_guidance", "detect", "score", *paths, *options, "--out", out]
    process = subprocess.Popen(list(map(str, command)), cwd=Path(__file__).parents[2], stderr=subprocess.PIPE)
    deadline = time.monotonic() + 240  # a busy machine takes a minute to import torch
    while not out.exists() or out.stat().st_size < 3000:
        time.sleep(0.01)
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    part = out.read_bytes()
    assert call("score", *paths, *options, "--out", out)[0] == 0
    whole = out.read_bytes()
    assert 3000 <= len(part) < len(whole)
    assert len(whole.splitlines()) == 480
    assert whole.startswith(part[: part.rindex(b"\n") + 1])
    assert call("score", *paths, *options, "--out", out, "--overwrite")[0] == 0
    assert out.read_bytes() == whole
    assert settings_path(out).is_file()
