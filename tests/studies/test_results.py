"""The results that ship: their form, and that they are complete."""

import json
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "docs" / "results").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_report_has_what_is_needed_to_repeat_it(path):
    report = json.loads(path.read_text())
    assert {"command", "commit", "versions"} <= set(report["meta"])
    assert {"torch", "diffusers"} <= set(report["meta"]["versions"])


def test_the_raag_table_is_complete():
    rows = json.loads((ROOT / "docs/results/raag.json").read_text())["rows"]
    for steps in (5, 10, 30):
        part = [row for row in rows if row["steps"] == steps]
        assert {row["weight"] for row in part if row["method"] == "cfg"} == {1, 1.5, 2, 3, 5, 7, 10}
        assert len([row for row in part if row["method"] == "raag"]) >= 9
    assert min(row["samples"] for row in rows) >= 1000


def test_the_elucd_table_is_complete():
    rows = json.loads((ROOT / "docs/results/elucd.json").read_text())["rows"]
    for sampler, steps, samples in (("ddim", 25, 5000), ("ddpm", 50, 5000), ("ddpm", 250, 1500)):
        part = {row["method"]: row for row in rows if (row["sampler"], row["steps"]) == (sampler, steps)}
        assert {"unguided", "naive", "+ x0 estimate", "+ temperatures", "+ schedule", "elucd"} <= set(part)
        assert {"cfg", "cfg+elucd"} <= set(part)
        for row in part.values():
            assert {"frechet", "accuracy", "precision", "recall"} <= set(row) and row["samples"] >= samples
            assert sampler == "ddpm" or "time_ratio" in row


def test_the_diffier_table_is_complete():
    rows = json.loads((ROOT / "docs/results/diffier.json").read_text())["rows"]
    for world in ("shapes", "digits"):
        part = [row for row in rows if row["world"] == world]
        assert {"cfg", "diffier", "raag", "raag+diffier"} == {row["method"] for row in part}
        for budget in (5, 10, 20):
            weights = {row["weight"] for row in part if row["method"] == "cfg" and row["budget"] == budget}
            assert len(weights) >= 9 and (min(weights), max(weights)) == (0, 8)
        assert all(row["nfe"] <= row["budget"] for row in part)


def test_what_fails_on_our_pipelines_fails_on_the_stock_class_too():
    rows = json.loads((ROOT / "docs/results/upstream.json").read_text())["rows"]
    failures = {(row["pipeline"], row["class"]): set(row["failures"]) for row in rows}
    pipelines = {pipeline for pipeline, _ in failures}
    assert len(pipelines) == 5 and len(failures) == len(rows) == 15
    for pipeline in pipelines:
        assert failures[pipeline, "ours"] | failures[pipeline, "ours, attached"] <= failures[pipeline, "stock class"]
    assert all(row["passed"] >= 20 for row in rows)
