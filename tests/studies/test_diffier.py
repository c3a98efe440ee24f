import json

import pytest

from diffusion_guidance import CFG, RAAG, DiffIER, Trace
from scripts.studies import diffier as study_diffier
from scripts.studies import diffier_report as study_diffier_report
from scripts.studies import diffier_rows as study_diffier_rows


def test_a_row_becomes_its_callbacks():
    trace = Trace()
    row = study_diffier_rows.row("raag+diffier", 3.0, 10, iterations=2, step_size=0.3)
    raag, diffier, last = study_diffier.guidance(row, trace)
    assert isinstance(raag, RAAG) and raag.w_max == 3.0 and isinstance(diffier, DiffIER) and last is trace
    assert (diffier.iterations, diffier.step_size, row["steps"]) == (2, 0.3, 4)
    (plain, _) = study_diffier.guidance(study_diffier_rows.row("cfg", 4.0, 10), trace)
    assert isinstance(plain, CFG) and plain.weight == 4.0


def test_a_small_study_of_both_worlds(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study_diffier_rows, "WEIGHTS", (1.0, 2.0, 4.0))
    monkeypatch.setattr(study_diffier_rows, "RAAG_WEIGHTS", (2.0,))
    monkeypatch.setattr(study_diffier_rows, "VARIED", ({"iterations": 2},))
    monkeypatch.setattr(study_diffier_rows, "VARIED_WEIGHTS", (2.0,))
    monkeypatch.setattr(study_diffier_rows, "BUDGETS", (4,))
    monkeypatch.setattr(study_diffier_report, "BUDGETS", (4,))

    out = tmp_path / "diffier.json"
    arguments = ["--samples", "4", "--out", str(out), "--work", str(tmp_path / "work")]
    study_diffier.STUDY.main(arguments)
    report = json.loads(out.read_text())
    assert {row["world"] for row in report["rows"]} == {"shapes", "digits"}
    assert report["meta"]["samples"] == {"digits": 4, "shapes": 4}
    for row in report["rows"]:
        reuse = row.get("reuse", False)
        nfe = row["steps"] + row.get("iterations", 0) * (row["steps"] - 1) - reuse * (row["steps"] - 1)
        # With weight 1 the unconditional pass runs in the first step alone.
        assert row["nfe"] == (nfe - (row["steps"] - 1) / 2 if row["method"] == "cfg" and row["weight"] == 1 else nfe)
        assert row["nfe"] <= 4 and row["frechet"] > 0 and 0 <= row["alignment"] <= 1
        assert ("error" in row and "cond_error" in row) != reuse
        # Of the conditional prediction alone the two are one.
        if row["weight"] == 1 and not reuse:
            assert row["error"] == pytest.approx(row["cond_error"], rel=2e-2)
    assert (tmp_path / "diffier.png").stat().st_size > 1000 and (tmp_path / "diffier-error.png").exists()
    assert "DiffIER, renoise" in capsys.readouterr().out
    text = study_diffier_report.summary_table(report["rows"]) + study_diffier_report.varied_table(report["rows"])
    assert "rank correlation" in text
    best = json.loads((tmp_path / "diffier-best.json").read_text())
    assert best["meta"]["seeds"] == {"digits": "2000000-2000003", "shapes": "2000000-2000003"}
    for row in best["rows"]:
        named = {"cfg": [], "raag": ["cfg"], "diffier": ["cfg"], "raag+diffier": ["cfg", "raag", "diffier"]}
        expected = {f"difference_to_{name}" for name in named[row["method"]]}
        assert {name for name in row if name.startswith("difference") and "interval" not in name} == expected
        assert 1 <= row["low"] <= row["high"] <= 4
    before = out.read_text()
    monkeypatch.setattr("diffusion_guidance.evaluation.study.pipeline_draw", lambda *_, **__: None)  # draws nothing
    study_diffier.STUDY.main(arguments)
    assert out.read_text() == before
