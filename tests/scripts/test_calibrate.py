import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from guidance import load_guidance
from guidance.calibration import calibration, fit_temperature
from guidance.evaluation.chunks import ChunkStore


ROOT = Path(__file__).parents[2]


def calibrate(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "scripts" / "calibrate.py", "--out", folder / "r.json", "--work", folder / "work"]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    arguments = ("--samples", "20", "--steps", "3", "--batch-size", "8", "--save-guidance", str(folder / "g.json"))
    result = calibrate(folder, *arguments)
    assert result.returncode == 0, result.stderr
    return folder, arguments, result


def test_figures_are_those_of_the_held_out_seeds_with_temperatures_of_the_others(done):
    folder, _, result = done
    report = json.loads((folder / "r.json").read_text())
    assert report["meta"]["seeds"] == {"fit": "0-19", "report": "20-39"}
    stores = {name: ChunkStore(folder / "work" / name / "samples", 20, 8) for name in ("fit", "report")}
    assert stores["fit"].array("labels").tolist() == [seed % 10 for seed in range(20)]
    for kind in ("off the shelf", "smooth"):
        (fit, labels), held_out = (
            (torch.from_numpy(store.array(kind)).transpose(0, 1), torch.from_numpy(store.array("labels")))
            for store in stores.values()
        )
        for name, factors in {
            "none": [1.0] * 3,
            "one": [fit_temperature(fit, labels)] * 3,
            "one a step": [fit_temperature(each, labels) for each in fit],
        }.items():
            rows = [row for row in report["rows"] if (row["classifier"], row["temperature"]) == (kind, name)]
            assert [row["step"] for row in rows] == [None, 0, 1, 2]
            assert [row["tau"] for row in rows[1:]] == pytest.approx(factors)
            for index, row in enumerate(rows[1:]):
                figures = calibration(factors[index] * held_out[0][index], held_out[1])
                assert {key: row[key] for key in figures} == pytest.approx(figures)
    assert "| smooth | one |" in result.stdout
    with Image.open(folder / "r.png") as picture:
        assert picture.width > 1000


def test_the_guidance_is_saved_with_its_temperatures(done):
    folder, _, _ = done
    (guidance,) = load_guidance(folder / "g.json")
    rows = json.loads((folder / "r.json").read_text())["rows"]
    (tau,) = {row["tau"] for row in rows if (row["classifier"], row["temperature"]) == ("smooth", "one")}
    assert (guidance.tau_joint, guidance.tau_marginal) == (tau, 0.5 * tau)
    assert guidance.replaced


def test_started_again_it_draws_nothing_and_writes_the_same(done):
    folder, arguments, _ = done
    before = (folder / "r.json").read_bytes()
    files = {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("*.safetensors")}
    assert calibrate(folder, *arguments).returncode == 0
    assert (folder / "r.json").read_bytes() == before
    assert {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("*.safetensors")} == files


def test_a_bad_classifier_is_one_line(tmp_path):
    result = calibrate(tmp_path, "assets/digits", "resnet50")
    assert result.returncode == 1 and "Traceback" not in result.stderr
    assert "a classifier is written LIBRARY:NAME" in result.stderr
