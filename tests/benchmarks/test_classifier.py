from pathlib import Path

import pytest
import torch

from diffusion_guidance import class_gradient
from diffusion_guidance.evaluation import read_report
from scripts.benchmarks import classifier as benchmark_classifier


ROOT = Path(__file__).parents[2]


def test_the_free_classifier_guides_by_a_gradient_that_does_not_vanish():
    logits = benchmark_classifier.linear(torch.Size([1, 8, 8]))
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(logits(2 * x), 2 * logits(x))
    assert class_gradient(logits, x, torch.tensor([1, 2, 3])).flatten(1).norm(dim=1).min() > 0.1


def test_a_small_run(tmp_path, capsys):
    file = tmp_path / "classifier.json"
    arguments = ["--batches", "2", "--steps", "2", "--rounds", "2", "--schedules", "x0", "edm"]
    benchmark_classifier.BENCHMARK.main([*arguments, "--json", str(file), "--assets", str(ROOT / "assets")])
    meta, rows = read_report(file)
    assert {"command", "commit", "versions", "threads"} <= set(meta) and (meta["steps"], meta["rounds"]) == (2, 2)
    assert [(row["world"], row["schedule"]) for row in rows] == [
        (world, schedule) for world in ("digits", "shapes") for schedule in ("x0", "edm")
    ]
    assert all(0.2 < row["callback_ratio"] < 10 for row in rows)
    assert all(("classifier_ms" in row) == (row["world"] == "digits") for row in rows)
    assert "shapes, 2 at once, edm: callback alone" in capsys.readouterr().out


def test_one_round_is_refused():
    with pytest.raises(SystemExit):
        benchmark_classifier.BENCHMARK.main(["--rounds", "1"])
