"""A small study: every row with its figures and their intervals, and nothing is drawn a second time."""

import pytest

from diffusion_guidance.evaluation import read_report
from scripts.studies import raag as study_raag


@pytest.fixture
def study(monkeypatch):
    monkeypatch.setattr(study_raag, "WEIGHTS", (1.0, 3.0))
    monkeypatch.setattr(study_raag, "GRID", ((5.0, 2.0),))
    monkeypatch.setattr(study_raag, "STEPS", (1, 2, 3))
    return study_raag


def test_rows(study, tmp_path, monkeypatch, capsys):
    command = ["--samples", "12", "--only", "steps=1,2", "--out", str(tmp_path / "raag.json")]
    command += ["--work", str(tmp_path / "work")]
    monkeypatch.setattr(study, "VISIBLE", 0.0)
    study.STUDY.main(command)
    meta, rows = read_report(tmp_path / "raag.json")
    assert (meta["samples"], meta["seeds"], meta["dtype"]) == (12, "0-11", "bfloat16")
    assert [(row["method"], row["steps"]) for row in rows] == [(m, n) for n in (1, 2) for m in ("cfg", "cfg", "raag")]
    fields = {"weight", "steps", "nfe", "samples", "alignment", "frechet", "alignment_interval", "frechet_interval"}
    assert fields <= set(rows[0]) and {"w_max", "alpha"} <= set(rows[2])
    # With weight 1 the unconditional pass runs in the first step alone.
    for row in rows:
        assert row["nfe"] == ((row["steps"] + 1) / 2 if row.get("weight") == 1 else row["steps"])
    assert (tmp_path / "raag.png").stat().st_size > 1000
    assert "| raag | - | 5 | 2 | 2 |" in capsys.readouterr().out
    monkeypatch.setattr("diffusion_guidance.evaluation.run.sample", None)  # drawing again would fail
    study.STUDY.main(command)
    assert read_report(tmp_path / "raag.json")[1] == rows
