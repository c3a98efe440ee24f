import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from diffusion_guidance import load_guidance
from diffusion_guidance.cli.command import main
from diffusion_guidance.evaluation.store import ChunkStore
from diffusion_guidance.methods.classifier.temperatures import calibration, fit_temperature

from ..classifiers import tiny_spec


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calibrate")
    arguments = ("--samples", "20", "--steps", "3", "--batch-size", "8", "--save-guidance", str(folder / "g.json"))
    command = [
        sys.executable,
        "-m",
        "diffusion_guidance",
        "calibrate",
        "--out",
        folder / "r.json",
        "--work",
        folder / "work",
    ]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, timeout=300, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return folder, result


def test_figures_are_those_of_the_held_out_seeds_with_temperatures_of_the_others(done):
    folder, result = done
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
    with Image.open(folder / "r.png") as image:
        assert image.width > 1000


def test_the_guidance_is_saved_with_its_temperatures(done):
    folder, _ = done
    (guidance,) = load_guidance(folder / "g.json")
    rows = json.loads((folder / "r.json").read_text())["rows"]
    (tau,) = {row["tau"] for row in rows if (row["classifier"], row["temperature"]) == ("smooth", "one")}
    assert (guidance.reading.tau_joint, guidance.reading.tau_marginal) == (tau, 0.5 * tau)
    assert guidance.replaced


def test_started_again_it_draws_nothing_and_writes_the_same(done, monkeypatch):
    folder, result = done
    before = (folder / "r.json").read_bytes()
    files = {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("*.safetensors")}
    monkeypatch.chdir(ROOT)
    assert main(["calibrate", *map(str, result.args[4:])]) == 0
    again = (folder / "r.json").read_bytes()
    before, again = (json.loads(text) for text in (before, again))
    assert again.pop("rows") == before.pop("rows")
    assert again["meta"] | {"command": before["meta"]["command"]} == before["meta"]  # this process is another program
    assert {path: path.stat().st_mtime_ns for path in (folder / "work").rglob("*.safetensors")} == files


def test_without_out_nothing_is_written_outside_the_folder_for_outputs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["calibrate", "--samples", "4", "--steps", "1"]) == 0, capsys.readouterr().err
    assert {path.parts[0] for path in (path.relative_to(tmp_path) for path in tmp_path.rglob("*"))} == {"out"}
    assert (tmp_path / "out" / "calibrate" / "calibration.json").is_file()


def test_a_text_to_image_pipeline_with_clip_told_the_prompts(tmp_path):
    background = "and a blue star at the bottom right on a dark background"
    prompts = [f"a {color} circle at the top left {background}" for color in ("red", "green")]
    (tmp_path / "prompts.txt").write_text("\n".join(prompts) + "\n")
    spec = tiny_spec("open_clip", tmp_path)["spec"]
    arguments = [str(ROOT / "assets" / "shapes"), spec, "--prompts", str(tmp_path / "prompts.txt"), "--samples", "3"]
    arguments += ["--steps", "2", "--weight", "2", "--out", str(tmp_path / "r.json"), "--work", str(tmp_path / "work")]
    assert main(["calibrate", *arguments, "--save-guidance", str(tmp_path / "g.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert {row["classifier"] for row in report["rows"]} == {"off the shelf"}  # its GELU is smooth already
    assert ChunkStore(tmp_path / "work" / "fit" / "samples", 3, 250).array("labels").tolist() == [0, 1, 0]
    (guidance,) = load_guidance(tmp_path / "g.json")
    assert guidance.classifier(torch.zeros(1, 3, 8, 8)).shape == (1, 2)
