import json
from pathlib import Path

import pytest
import study_diffier

from guidance import CFG, RAAG, DiffIER, Trace


ROOT = Path(__file__).parents[2]


def test_steps_are_the_most_that_the_budget_allows():
    for iterations in (1, 2, 3):
        for reuse in (False, True):
            for budget in (5, 9, 10, 20, 39, 40):
                costs = [n + iterations * (n - 1) - reuse * (n - 1) for n in range(1, 60)]
                expected = 1 + max(k for k, cost in enumerate(costs) if cost <= budget)
                assert study_diffier.steps_of(budget, iterations, reuse) == expected
    assert study_diffier.steps_of(20) == 20


def test_the_table_holds_what_the_claims_need():
    rows = study_diffier.table()
    assert len({tuple(row.items()) for row in rows}) == len(rows)
    for budget in (5, 10, 20):
        for method in ("cfg", "diffier", "diffier, renoise", "diffier, reuse"):
            part = [row for row in rows if row["budget"] == budget and study_diffier.curve(row) == method]
            assert [row["weight"] for row in part] == list(study_diffier.WEIGHTS) and len(part) >= 9
    assert {study_diffier.curve(row) for row in rows if row["budget"] == 5} >= {"raag", "raag+diffier"}
    assert {row["budget"] for row in rows} == {5, 10, 20, 40}
    assert any(study_diffier.curve(row) == "" for row in rows)


def test_the_summary_by_hand():
    frechet = {"cfg": (4.0, 1.0, 3.0), "diffier": (3.0, 2.0, 2.5)}
    rows = [
        study_diffier.row(method, weight, 10) | {"world": "digits", "frechet": value, "alignment": 0.9, "error": -value}
        for method, values in frechet.items()
        for weight, value in zip((1.0, 2.0, 4.0), values, strict=True)
    ]
    rows = [row | {"nfe": 10.0, "cond_error": row["frechet"] + row["weight"]} for row in rows]
    plain, ours = study_diffier.summary(rows)
    assert plain["better than without"] is None and ours["better than without"] == "2 of 3 weights"
    assert plain["rank correlation, error"] == pytest.approx(-1)
    assert plain["rank correlation, cond_error"] == pytest.approx(0.5)
    assert (plain["weight"], plain["frechet"], plain["steps"], ours["steps"]) == (2, 1, 10, 5)
    assert plain["within 20 %"] == "1.93 to 2.20"


def test_a_row_becomes_its_callbacks():
    trace = Trace()
    row = study_diffier.row("raag+diffier", 3.0, 10, iterations=2, step_size=0.3)
    raag, diffier, last = study_diffier.guidance(row, trace)
    assert isinstance(raag, RAAG) and raag.w_max == 3.0 and isinstance(diffier, DiffIER) and last is trace
    assert (diffier.iterations, diffier.step_size, row["steps"]) == (2, 0.3, 4)
    (plain, _) = study_diffier.guidance(study_diffier.row("cfg", 4.0, 10), trace)
    assert isinstance(plain, CFG) and plain.weight == 4.0


def test_a_small_study_of_both_worlds(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study_diffier, "WEIGHTS", (1.0, 2.0, 4.0))
    monkeypatch.setattr(study_diffier, "RAAG_WEIGHTS", (2.0,))
    monkeypatch.setattr(study_diffier, "VARIED", ({"iterations": 2},))
    monkeypatch.setattr(study_diffier, "VARIED_WEIGHTS", (2.0,))
    monkeypatch.setattr(study_diffier, "load_subject", lambda world, assets: small(world, assets, scenes=200))
    from guidance.worlds.subjects import load_subject as small

    out = tmp_path / "diffier.json"
    arguments = ["--samples", "4", "--budgets", "4", "--out", str(out), "--work", str(tmp_path / "work")]
    arguments += ["--assets", str(ROOT / "assets")]
    study_diffier.main(arguments)
    report = json.loads(out.read_text())
    assert {row["world"] for row in report["rows"]} == {"shapes", "digits"}
    assert report["meta"]["samples"] == {"digits": 4, "shapes": 4}
    for row in report["rows"]:
        reuse = row.get("reuse", False)
        assert row["nfe"] == row["steps"] + row.get("iterations", 0) * (row["steps"] - 1) - reuse * (row["steps"] - 1)
        assert row["nfe"] <= 4 and row["frechet"] > 0 and 0 <= row["alignment"] <= 1
        assert ("error" in row and "cond_error" in row) != reuse
        # Of the conditional prediction alone the two are one.
        if row["weight"] == 1 and not reuse:
            assert row["error"] == pytest.approx(row["cond_error"], rel=2e-2)
    assert (tmp_path / "diffier.png").stat().st_size > 1000 and (tmp_path / "diffier-error.png").exists()
    assert "DiffIER, renoise" in capsys.readouterr().out
    text = study_diffier.summary_table(report["rows"]) + study_diffier.varied_table(report["rows"])
    assert "rank correlation" in text
    before = out.read_text()
    monkeypatch.setattr(study_diffier, "load_world", lambda world, assets: None)  # a second run draws nothing
    study_diffier.main(arguments)
    assert out.read_text() == before
