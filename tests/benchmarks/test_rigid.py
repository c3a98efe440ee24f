"""The benchmark of RIGID: both ways compute the same thing, and a small run writes its report."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from diffusion_guidance.detection import random_encoder
from scripts.benchmarks import rigid as benchmark_rigid


ROOT = Path(__file__).parents[2]


def test_both_ways_agree_but_for_the_noise():
    encoder = random_encoder("vit_tiny_patch16_224", size=32, depth=1, patch_size=8)
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    published = benchmark_rigid.published(encoder, images, draws=200, batch=4)
    ours = benchmark_rigid.ours(encoder, images, draws=200, batch=4)
    torch.testing.assert_close(1 - ours, 1 - published, rtol=0.2, atol=0)


def test_a_small_run(tmp_path):
    command = [sys.executable, "-m", "scripts.benchmarks", "rigid", "--json", str(tmp_path / "rigid.json")]
    command += ["--encoder", "random:vit_tiny_patch16_224", "--size", "32", "--images", "2", "--batch", "2"]
    subprocess.run([*command, "--rounds", "2", "--draws", "1"], check=True, timeout=300, capture_output=True, cwd=ROOT)
    report = json.loads((tmp_path / "rigid.json").read_text())
    assert {"command", "commit", "versions", "threads"} <= set(report["meta"])
    (row,) = report["rows"]
    assert row["draws"] == 1
    assert row["speedup"] > 0
    assert row["peak_mib"] > 0
