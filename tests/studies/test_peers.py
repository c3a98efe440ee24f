import json
from pathlib import Path

import pytest

from scripts.studies import peers as study_peers


ROOT = Path(__file__).parents[2]


def test_a_small_study_of_every_method(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study_peers, "WEIGHTS", {"digits": (3.0,), "shapes": (3.0,)})
    monkeypatch.setattr(study_peers, "BUDGET", {"digits": 10, "shapes": 2})
    out = tmp_path / "peers.json"
    command = ["--samples", "3", "--assets", str(ROOT / "assets"), "--out", str(out), "--work", str(tmp_path / "work")]
    study_peers.STUDY.main(command)
    report = json.loads(out.read_text())
    rows = {(row["world"], row["method"], row["weight"]): row for row in report["rows"]}
    assert len(rows) == len(report["rows"]) == 11 + 15
    for (world, method, _), row in rows.items():
        assert row["frechet"] > 0 and 0 <= row["alignment"] <= 1 and row["samples"] == 3
        changes_the_network = method in ("autoguidance", "skip layer", "perturbed attention", "smoothed energy")
        nfe = (8.5,) if method == "guidance interval" else (9, 10)  # outside of it the conditional pass alone
        if world == "digits":  # two steps are too few for the window of skip layers
            assert row["nfe"] > row["steps"] if changes_the_network else row["nfe"] in nfe, method
    # No method is another one under its name.
    assert len({row["frechet"] for key, row in rows.items() if key[0] == "digits"}) == 15
    assert (tmp_path / "peers-digits.png").stat().st_size > 1000 and (tmp_path / "peers-shapes.png").exists()
    assert "tangential CFG" in capsys.readouterr().out


def test_the_best_rows_by_hand():
    row = {"world": "digits", "samples": 5, "steps": 2, "nfe": 2.0, "alignment": 1.0}
    rows = [row | {"method": "a", "weight": w, "frechet": f} for w, f in ((1.0, 3.0), (2.0, 1.0), (3.0, 1.4))]
    rows += [row | {"method": "b", "weight": w, "frechet": f} for w, f in ((1.0, 0.5), (2.0, 5.0))]
    first, second = study_peers.best(rows)
    assert (first["method"], first["weight"], second["method"], second["weight"]) == ("b", 1.0, "a", 2.0)
    assert second["within 20 %"] == "1.90 to 2.50"
    with pytest.raises(SystemExit):
        study_peers.STUDY.main(["--worlds", "none"])
