import itertools
import json
import math
from types import SimpleNamespace

import pytest

from diffusion_guidance.methods.classifier.reading import READINGS
from diffusion_guidance.methods.classifier.strength import SCHEDULES
from scripts.studies import elucd as study_elucd


@pytest.fixture
def script(monkeypatch):
    monkeypatch.setattr(study_elucd, "SCALES", (0.5, 2.0))
    monkeypatch.setattr(study_elucd, "LARGEST", 64.0)
    monkeypatch.setattr(study_elucd, "WEIGHTS", (1.5, 3.0))
    return study_elucd


def test_a_small_study_tunes_measures_times_and_draws_and_goes_on_where_it_stopped(script, tmp_path, monkeypatch):
    methods = ["unguided", "naive", "elucd", "cfg", "cfg+elucd"]
    monkeypatch.setattr(script, "METHODS", methods)
    monkeypatch.setattr(script, "WINDOWS", script.WINDOWS[1:3])
    monkeypatch.setattr(script, "LARGEST", 2.0)  # no further scales: there is a test of them below
    out = tmp_path / "elucd.json"
    for name, value in {"TUNING_SAMPLES": 8, "IMAGES": 2, "PAIRS": 2}.items():
        monkeypatch.setattr(script, name, value)
    arguments = ["--samples", "12", "--only", "sampler=ddim", "--out", str(out), "--work", str(tmp_path / "work")]
    script.STUDY.main(arguments)
    report = json.loads(out.read_text())
    rows = {row["method"]: row for row in report["rows"]}
    assert list(rows) == methods
    for row in rows.values():
        assert row["samples"] == 12 and row["steps"] == 25 and row["frechet"] > 0 and row["time_ratio"] > 0
        assert 0 <= row["accuracy"] <= 1 and 0 <= row["precision"] <= 1 and 0 <= row["recall"] <= 1
    assert rows["cfg+elucd"]["weight"] == rows["cfg"]["weight"] and "scale" not in rows["cfg"]
    tried = json.loads((tmp_path / "elucd-tuning.json").read_text())["rows"]
    naive = {row["scale"]: row["frechet"] for row in tried if row["method"] == "naive"}
    assert set(naive) == {0.5, 2.0} and rows["naive"]["scale"] == min(naive, key=naive.get)
    windows = {(row["start"], row["stop"]): row["frechet"] for row in tried if row["method"] == "elucd"}
    assert len(windows) == 2 and (rows["elucd"]["start"], rows["elucd"]["stop"]) in windows
    assert rows["cfg+elucd"]["start"] == rows["elucd"]["start"]
    assert (tmp_path / "elucd.png").stat().st_size > 5000
    before = out.read_bytes()
    monkeypatch.setattr(script, "interleaved", None)  # nothing is timed, and nothing drawn, again
    script.STUDY.main(arguments)
    assert out.read_bytes() == before


def test_each_ingredient_is_one_change(script):
    rows = list(script.INGREDIENTS.values())
    assert len(rows) == 5
    preset = READINGS["ddpm"]._asdict() | {"gamma": SCHEDULES["ddpm"][1]}
    settings = [preset | row for row in rows]
    for one, two in itertools.pairwise(settings):
        assert len([name for name in one if one[name] != two[name]]) == 1


def test_the_scales_go_on_until_the_best_is_inside(script):
    """Frechet distances that are smallest at a scale beyond each end; of every kind only the new scales are drawn."""
    drawn = []

    def run(best):
        def measured(rows, *_):
            drawn.extend(row["scale"] for row in rows)
            return [row | {"frechet": abs(math.log2(row["scale"] / best))} for row in rows]

        return measured

    rows = [{"method": "naive", "scale": scale} for scale in script.SCALES]
    for best, scales in ((8.0, [0.5, 2.0, 4.0, 8.0, 16.0]), (0.25, [0.125, 0.25, 0.5, 2.0])):
        drawn.clear()
        study = SimpleNamespace(measure=run(best))
        found = script.Digits.search(study, rows)
        assert [row["scale"] for row in found] == scales and sorted(drawn) == scales
    assert script.Digits.search(SimpleNamespace(measure=run(1e9)), rows)[-1]["scale"] == script.LARGEST


def test_the_window_that_was_best_serves_the_other_rows_with_one(script):
    chosen = {"cfg": {"weight": 1.5}, "elucd": script.WINDOWS[1]}
    for method in ("elucd (x0)", "cfg+elucd"):
        for row in script.candidates(method, "ddpm", chosen.__getitem__)[0]:
            assert script.WINDOWS[1].items() <= row.items()
            guide = script.guidance(row, lambda x: x)[0]
            assert (guide.start, guide.stop, guide.strength.scale) == (row["start"], row["stop"], row["scale"])
    assert len(script.candidates("elucd", "ddpm", chosen.__getitem__)) == len(script.WINDOWS)
    for _, steps in script.SAMPLERS:  # all windows cost the same
        assert len({int(window["stop"] * steps) - int(window["start"] * steps) for window in script.WINDOWS}) == 1
