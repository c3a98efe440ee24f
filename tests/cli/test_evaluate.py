"""The command line: each command ends with a report, and bad arguments with one sentence and exit code 2."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_guidance import CFG, RAAG, save_guidance, to_config
from diffusion_guidance.cli import evaluation_run, measuring
from diffusion_guidance.cli.command import main
from diffusion_guidance.evaluation import Extractor, Moments, read_report
from diffusion_guidance.worlds.digits import load_digits
from scripts.benchmarks import evaluation as benchmark_evaluation

from ..tiny import tiny_dit, tiny_sd3


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    sd3 = tiny_sd3()
    sd3.vae.register_to_config(shift_factor=0.0)
    sd3.save_pretrained(folder / "sd3")
    tiny_dit().save_pretrained(folder / "dit")
    return folder


@pytest.fixture
def call(capsys):
    def run(*arguments) -> str:
        code = main(["evaluate", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert code == 0, err
        return out

    return run


def test_run_again_writes_the_same_bytes(models, tmp_path, call):
    command = [
        "run",
        models / "sd3",
        "--world",
        "shapes",
        "--seeds",
        "3-30",
        "--steps",
        2,
        "--guidance",
        "raag:w_max=4",
    ]
    command += ["--weight", 3, "--world-samples", 300, "--measure", "frechet", "--measure", "kid", "--out", tmp_path]
    table = call(*command)
    first = (tmp_path / "report.json").read_bytes()
    meta, (row,) = read_report(tmp_path / "report.json")
    assert {"method": "raag", "weight": 3.0, "w_max": 4, "steps": 2, "nfe": 2.0, "samples": 28}.items() <= row.items()
    assert row["frechet"] > 0
    assert {"kid", "alignment", "frechet_interval", "frechet_warning"} <= set(row)
    assert meta["seeds"] == [[3, 30]]
    assert len(meta["reference"]["sha256"]) == 64
    assert table.startswith((tmp_path / "report.md").read_text())
    call(*command)
    assert (tmp_path / "report.json").read_bytes() == first
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.size == (8 * 34 + 2, 4 * 34 + 2)


def test_classes_with_a_reference_of_images(models, tmp_path, call, monkeypatch):
    monkeypatch.setattr(
        measuring.Measuring,
        "load_extractor",
        lambda self: (
            Extractor(self.extractor, lambda images: images.mean((2, 3)), device=self.device)
            if self.extractor
            else None
        ),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "adm.npz", arr_0=pixels)
    command = ["run", models / "dit", "--classes", "0-1", "--seeds", "0-9", "--steps", 2, "--extractor", "mean"]
    call(*command, "--reference", tmp_path / "adm.npz", "--measure", "neighbours", "--out", tmp_path / "run")
    _, (row,) = read_report(tmp_path / "run" / "report.json")
    assert {"precision", "recall", "density", "coverage"} <= set(row)
    saved = tmp_path / "moments.safetensors"
    call("score", tmp_path / "run", tmp_path / "run", "--save-statistics", saved, "--out", tmp_path / "same")
    assert read_report(tmp_path / "same" / "report.json")[1][0]["frechet"] == pytest.approx(0, abs=1e-9)
    assert Moments.load(saved).count == 10


def test_sweep_draws_curves(models, tmp_path, call):
    command = ["sweep", models / "sd3", "--world", "shapes", "--seeds", "0-7", "--steps", "1,2", "--weights", "2,4"]
    command += ["--method", "none", "--method", "raag:w_max={weight}"]
    command += ["--method", "raag:stop=0.5 cfg:weight=2,start=0.5"]
    call(*command, "--world-samples", 100, "--out", tmp_path)
    _, rows = read_report(tmp_path / "report.json")
    assert [(row["method"], row["steps"], row.get("weight")) for row in rows[:5]] == [
        ("cfg", 1, 2.0),
        ("cfg", 1, 4.0),
        ("raag", 1, 2.0),
        ("raag", 1, 4.0),
        ("raag+cfg", 1, 2),
    ]
    assert len(rows) == 10
    assert rows[2]["w_max"] == 2
    for name in ("frechet.png", "alignment.png", "pareto.png"):
        assert Image.open(tmp_path / name).size[0] > 100


def test_a_sweep_uses_the_weight_that_it_reports_and_merges_no_curves():
    methods = ["none", "raag:w_max={weight},alpha=8", "raag:w_max={weight},alpha=8,start=0.5", "cfg:weight=8"]
    plan = evaluation_run.plan(methods, [1.23456789, 3.0, 1e-7])
    assert [one.short for one in plan[3:5]] == ["raag:w_max=1.23456789,alpha=8", "raag:w_max=3,alpha=8"]
    for one in plan[3:9]:
        assert one.guidance[0].config["w_max"] == one.weight and "{weight}" in one.text
    assert len({one.line for one in plan}) == 4 and len(plan) == 10
    assert [one.own_weight for one in plan] == [1.23456789, 3.0, 1e-7] + [None] * 7


def test_a_method_of_a_sweep_may_be_a_file(tmp_path):
    path = save_guidance(tmp_path / "g.json", [RAAG(w_max=4), CFG(2, start=0.5)])
    (one,) = evaluation_run.plan([str(path)], [1.0, 2.0])
    assert to_config(one.guidance) == to_config([RAAG(w_max=4), CFG(2, start=0.5)])


def test_a_file_of_guidance_is_the_same_as_its_short_form(models, tmp_path, call):
    path = save_guidance(tmp_path / "g.json", RAAG(w_max=4))
    command = ["run", models / "sd3", "--world", "shapes", "--seeds", "0-3", "--steps", 1, "--world-samples", 50]
    call(*command, "--guidance-file", path, "--out", tmp_path / "file")
    call(*command, "--guidance", "raag:w_max=4", "--out", tmp_path / "text")
    rows = [read_report(tmp_path / name / "report.json")[1] for name in ("file", "text")]
    assert rows[0] == rows[1]


def test_another_run_in_the_same_folder_is_refused(models, tmp_path, call, capsys):
    command = ["run", models / "sd3", "--world", "shapes", "--seeds", "0-3", "--world-samples", 50, "--out", tmp_path]
    call(*command, "--steps", 1)
    assert main(["evaluate", *map(str, command), "--steps", "2"]) == 2
    assert "made with another call" in capsys.readouterr().err


def test_benchmark_measures_the_same_distance():
    rows = [benchmark_evaluation.measure(name, 60, 8, 16) for name in benchmark_evaluation.LIBRARIES]
    values = [row["frechet"] for row in rows]
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)
    assert all(row["pictures_per_second"] > 0 for row in rows)


def test_the_digits_world(tmp_path, call):
    command = ["run", "assets/digits", "--world", "digits", "--seeds", "0-69", "--steps", 3]
    call(*command, "--guidance", "cfg:weight=2", "--batch-size", 70, "--measure", "neighbours", "--out", tmp_path)
    _, (row,) = read_report(tmp_path / "report.json")
    assert {"method": "cfg", "weight": 2, "steps": 3, "samples": 70}.items() <= row.items()
    assert {"accuracy", "precision", "coverage"} <= set(row)
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.size == (8 * 10 + 2, 8 * 10 + 2)


def test_a_worlds_classifier_measures_images_of_any_folder(tmp_path, call):
    (tmp_path / "digits").mkdir()
    images, _ = load_digits()
    for i, image in enumerate(images[:40]):
        pixels = (image[0] * 255).round().to(torch.uint8).numpy()
        Image.fromarray(pixels).save(tmp_path / "digits" / f"{i:02d}.png")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "noise.npz", arr_0=pixels)
    for name in ("digits", "noise.npz"):
        out = tmp_path / f"out-{name}"
        call("score", tmp_path / name, tmp_path / "digits", "--extractor", "digits", "--out", out)
    same, noise = (
        read_report(tmp_path / f"out-{name}" / "report.json")[1][0]["frechet"] for name in ("digits", "noise.npz")
    )
    assert same == pytest.approx(0, abs=1e-6)
    assert noise > 10
