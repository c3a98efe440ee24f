import json

import pytest

from scripts.studies import diffier_objectives as study_objectives


def test_steps_are_the_most_that_the_budget_allows():
    found = {
        (kind, budget): study_objectives.row(kind, 2.0, budget, settings)["steps"]
        for kind, settings in study_objectives.KINDS.items()
        for budget in (10, 20)
    }
    assert found == {
        ("CFG", 10): 10,
        ("CFG", 20): 20,
        **{(kind, budget): budget // 2 for kind in ("pair", "renoise", "gradient") for budget in (10, 20)},
        ("manifold", 10): 6,
        ("manifold", 20): 12,  # 6 + 2 * 2, 12 + 2 * 4
        ("manifold, 3 iterations", 10): 4,
        ("manifold, 3 iterations", 20): 7,  # 4 + 6 * 1, 7 + 6 * 2
        ("gradient, backward counted", 10): 3,
        ("gradient, backward counted", 20): 5,  # 3 + 3 * 2, 5 + 3 * 4
    }


def test_the_table_has_plain_guidance_for_every_comparison():
    rows = study_objectives.table()
    assert len({str(row) for row in rows}) == len(rows)
    for row in rows:
        if row["method"] == "diffier":
            assert len(study_objectives.without(row, rows)) == 1
            if row["weight"] in study_objectives.COMPARED_AT and row["kind"] != "varied":
                plain = study_objectives.row("CFG", row["weight"], row["steps"], {})
                assert plain in rows


def test_a_small_study(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study_objectives, "WEIGHTS", (2.0, 4.0))
    monkeypatch.setattr(study_objectives, "BUDGETS", (5,))
    monkeypatch.setattr(study_objectives, "IMAGES", 2)
    monkeypatch.setattr(study_objectives, "ROUNDS", 2)
    out = tmp_path / "objectives.json"
    command = ["--worlds", "digits", "--samples", "4", "--out", str(out), "--work", str(tmp_path / "work")]
    study_objectives.STUDY.main([*command, "--only", "weight=2,4"])
    rows = json.loads(out.read_text())["rows"]
    for row in rows:
        settings = {} if row["method"] == "cfg" else {name: row[name] for name in ("objective", "iterations")}
        settings |= {"stop": row["stop"]} if "stop" in row else {}
        assert row["nfe"] == study_objectives.cost(row["steps"], settings) <= row["budget"]  # without backward passes
        plain = [one for one in rows if one["kind"] == "CFG" and one["weight"] == row["weight"]]
        in_steps = next(one for one in plain if one["steps"] == row["steps"])
        if row["method"] == "diffier":
            assert "difference" in row and row["error_ratio"] == pytest.approx(row["error"] / in_steps["error"])
        assert ("time_ratio" in row) == (row["kind"] in study_objectives.KINDS and row["budget"] == 5)
    assert next(row for row in rows if row["kind"] == "CFG" and row["budget"] == 5)["time_ratio"] == 1
    assert all(row["error_ratio"] < 1 for row in rows if row["kind"] == "pair")
    printed = capsys.readouterr().out
    assert "width to CFG's" in printed and "gradient, backward counted" in printed
