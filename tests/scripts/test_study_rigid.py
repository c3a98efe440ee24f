"""The study of RIGID and the training of its encoder, at a tiny setting; and what the generated pictures are."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import study_rigid
import torch

from guidance.detection.patch_encoder import PatchEncoder


ROOT = Path(__file__).parents[2]


def test_a_tiny_study_resumes(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/study_rigid.py"), "--samples", "6", "--worlds", "digits"]
    command += ["--corruptions", "none", "jpeg 75", "--work", str(tmp_path), "--out", str(tmp_path / "rigid.json")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    report = json.loads((tmp_path / "rigid.json").read_text())
    rows = report["rows"]
    # Two encoders, two settings; a pair under two corruptions, and two controls.
    assert len(rows) == 2 * 2 * (2 + 2)
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
    assert len(report["meta"]["validation"]) == 2 * 8
    assert (tmp_path / "rigid.png").stat().st_size > 1000
    assert "Controls" in study_rigid.markdown(rows)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
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
    drawn = study_rigid.gaussian_patches(model, 20_000, seed=0).flatten(1).numpy()
    np.testing.assert_allclose(drawn.mean(0), model.flatten(1).mean(0), atol=2e-3)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(model.flatten(1).numpy().T), atol=3e-4)


def test_random_phase_keeps_the_spectrum():
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.45  # nothing is cut off
    drawn = study_rigid.random_phase(images, seed=0)
    torch.testing.assert_close(torch.fft.fft2(drawn).abs(), torch.fft.fft2(images).abs(), rtol=1e-3, atol=1e-3)
    assert (drawn - images).abs().mean() > 0.01


def test_a_tiny_training(tmp_path):
    command = [sys.executable, str(ROOT / "scripts/train_encoder.py"), "--steps", "2", "--batch", "4", "--width", "8"]
    command += ["--out", str(tmp_path / "net"), "--work", str(tmp_path / "work")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    network = PatchEncoder.from_pretrained(tmp_path / "net")
    assert network.config.width == 8
    assert network.centre.abs().max() > 0
    assert "SimCLR" in (tmp_path / "net/README.md").read_text()


def test_the_shipped_encoder_is_small_and_told_real_patches_apart():
    from guidance.detection import load_encoder
    from guidance.worlds.photographs import load_patches

    folder = ROOT / "assets/patch-encoder"
    assert (folder / "diffusion_pytorch_model.safetensors").stat().st_size < 1.5e6
    encoder = load_encoder(f"local:{folder}")
    patches = load_patches("test")[0][::4]
    noisy = (patches + 0.02 * torch.randn(patches.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    with torch.no_grad():
        first, second = (
            torch.nn.functional.normalize(encoder.features(encoder.transform(p))) for p in (patches, noisy)
        )
    found = (first @ second.T).argmax(1) == torch.arange(len(patches))
    assert found.float().mean() > 0.9  # of photographs that it has not seen
