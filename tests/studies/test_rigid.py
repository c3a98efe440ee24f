"""The study of RIGID and the training of its encoder, at a tiny setting; and what the generated images are."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from scripts.studies import rigid as study_rigid
from scripts.studies import rigid_sets, tune_encoder


ROOT = Path(__file__).parents[2]


def test_a_tiny_study_resumes(tmp_path):
    command = [sys.executable, "-m", "scripts.studies.rigid", "--samples", "6", "--worlds", "digits"]
    command += ["--only", "corruption=none,jpeg 75", "--work", str(tmp_path), "--out", str(tmp_path / "rigid.json")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=300, capture_output=True)
    report = json.loads((tmp_path / "rigid.json").read_text())
    rows = report["rows"]
    # Three encoders, two settings; a pair under two corruptions, and two controls.
    assert len(rows) == 3 * 2 * (2 + 2)
    known = {
        "encoder",
        "real",
        "fake",
        "control",
        "corruption",
        "auroc",
        "average_precision",
        "fpr95",
        "auroc_interval",
    }
    assert all(known <= set(row) for row in rows)
    assert {row["samples"] for row in rows if row["control"]} == {6}
    assert len(report["meta"]["validation"]) == 3 * 8
    assert (tmp_path / "rigid.png").stat().st_size > 1000
    assert "Controls" in study_rigid.markdown(rows)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    subprocess.run(command, cwd=ROOT, check=True, timeout=300, capture_output=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")} == stamps
    assert json.loads((tmp_path / "rigid.json").read_text()) == report


def test_controls_are_halves_of_one_set():
    sets = {"real": torch.arange(8.0), "fake": torch.arange(8.0) + 100}
    found = {(real, fake): (control, *sides) for real, fake, control, *sides in study_rigid.pairs(sets)}
    assert set(found) == {("real", "fake"), ("real", "real"), ("fake", "fake")}
    for (real, fake), (control, first, second) in found.items():
        assert control == (real == fake)
        assert set(first.tolist()).isdisjoint(second.tolist()) == control
        assert len(first) == len(second)


def test_gaussian_patches_have_the_moments_of_their_model():
    model = torch.rand(50, 3, 2, 2, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.4
    drawn = rigid_sets.gaussian_patches(model, 20_000, seed=0).flatten(1).numpy()
    np.testing.assert_allclose(drawn.mean(0), model.flatten(1).mean(0), atol=2e-3)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(model.flatten(1).numpy().T), atol=3e-4)


def test_random_phase_keeps_the_spectrum():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.45  # nothing is cut off
    drawn = rigid_sets.random_phase(images, seed=0)
    torch.testing.assert_close(torch.fft.fft2(drawn).abs(), torch.fft.fft2(images).abs(), rtol=1e-3, atol=1e-3)
    assert (drawn - images).abs().mean() > 0.01


def test_a_tuning_looks_at_the_validation_split_alone(tmp_path, monkeypatch):
    asked = []

    def sets(world, split, run):
        asked.append((world, split))
        draw = torch.Generator().manual_seed(0)
        return {name: torch.rand(8, 3, 32, 32, generator=draw) for name in ("real", "one", "two")}

    monkeypatch.setattr(tune_encoder, "image_sets", sets)
    tune_encoder.STUDY.main(["--only", "way=patch 4", "--out", str(tmp_path / "t.json")])
    rows = json.loads((tmp_path / "t.json").read_text())["rows"]
    assert asked == [("photographs", "validation")]
    assert len(rows) == len(study_rigid.NOISES) * 2
    best = max(rows, key=lambda row: row["auroc"])
    assert best["auroc"] == (best["pairs"]["one"] + best["pairs"]["two"]) / 2
    assert f"| patch 4 | {best['noise']:g} | {best['method']} |" in tune_encoder.document(rows)
