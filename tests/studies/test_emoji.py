"""The studies of the emoji world on a few images: nothing is drawn twice, and the tables say what was measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_guidance.evaluation import read_report
from diffusion_guidance.worlds.emoji_judge import EmojiJudge
from scripts.studies import emoji_diffier, emoji_elucd, emoji_heldout, emoji_raag


class Stored:
    def __init__(self, right):
        self.right = np.array(right)

    def array(self, name):
        return {"alignment": self.right}[name]


def test_a_gain_is_over_the_best_row_of_as_many_steps():
    rows = [
        {"method": "cfg", "steps": 5, "alignment": 0.25},
        {"method": "cfg", "steps": 5, "alignment": 0.5},
        {"method": "raag", "steps": 5, "alignment": 0.75},
        {"method": "cfg", "steps": 10, "alignment": 1.0},
        {"method": "raag", "steps": 10, "alignment": 0.0},
    ]
    stores = [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]
    found = emoji_raag.with_gains(rows, [Stored(np.array(one, bool)) for one in stores])
    assert [row.get("gain") for row in found] == [None, None, 0.25, None, -1.0]
    low, high = found[2]["gain_interval"]
    assert low <= 0.25 <= high


def test_a_row_is_drawn_once_and_read(tmp_path, monkeypatch):
    monkeypatch.setattr(emoji_raag, "WEIGHTS", (3.0,))
    monkeypatch.setattr(emoji_raag, "GRID", ())
    monkeypatch.setattr(emoji_raag, "LATE_WEIGHTS", (3.0,))
    monkeypatch.setattr(emoji_raag, "STEPS", (1, 2))
    out = tmp_path / "raag.json"
    command = ["--samples", "8", "--only", "steps=1", "--out", str(out), "--work", str(tmp_path)]
    emoji_raag.STUDY.main(command)
    before = out.read_bytes()
    meta, rows = read_report(out)
    assert [row["method"] for row in rows] == ["cfg", "raag"] and "gain" in rows[1]
    assert all({"alignment_interval", "name", "style", "frechet"} <= set(row) for row in rows)
    assert rows[1]["fitted_for"] == 3 and rows[1]["w_max"] > 3 and rows[1]["alpha"] > 0
    assert "8 images a row" in emoji_raag.every_row(meta, rows)
    monkeypatch.setattr(emoji_raag, "pipeline_draw", lambda *args, **call: None)
    emoji_raag.STUDY.main(command)
    assert out.read_bytes() == before


def test_alignment_of_pairs_is_by_style_next_to_chance(monkeypatch):
    judge = EmojiJudge(["3d cat", "3d dog", "noto cat", "noto dog"], width=48).eval()
    said = torch.tensor([[0, 0], [1, 0], [0, 2], [0, 2]])  # 3d cat, 3d dog, noto cat, noto cat
    logits = [torch.nn.functional.one_hot(column, 4).float() for column in said.unbind(1)]
    monkeypatch.setattr(judge, "forward", lambda images: logits)
    asked = ["3d cat", "3d dog", "noto cat", "noto dog"]
    rows = emoji_heldout.alignment(judge, "known", torch.zeros(4, 3, 64, 64, dtype=torch.uint8), asked)
    found = {row["in_style"]: row for row in rows if row["samples"]}
    assert found["all"]["alignment"] == 0.75 and found["noto"]["name"] == 0.5 and found["3d"]["style"] == 1
    assert found["all"]["name_chance"] == 0.5 and found["noto"]["name_chance"] == 0.5


def test_the_tables_that_ship_are_complete():
    results = Path(__file__).parents[2] / "docs" / "results"
    rows = json.loads((results / "emoji-raag.json").read_text())["rows"]
    assert min(row["samples"] for row in rows) >= 500
    for steps in (5, 10):
        part = [row for row in rows if row["steps"] == steps]
        assert {row["weight"] for row in part if row["method"] == "cfg"} == {1, 2, 3, 5, 7, 10}
        assert len([row for row in part if row["method"] == "raag"]) == 6
    rows = json.loads((results / "emoji-heldout.json").read_text())["rows"]
    assert {"drawings", "reconstructed", "checkpoint"} == {row["set"] for row in rows if "set" in row}


def test_rows_with_diffier_stand_next_to_the_same_guidance_in_as_many_evaluations():
    rows = emoji_diffier.table([{"w_max": 4.5, "alpha": 2.9, "fitted_for": 3.0, "alignment": 0.5}])
    for row in rows:
        settings = emoji_diffier.ITERATED.get(row["kind"], {})
        row["nfe"] = row["steps"] if row.get("reuse") else emoji_diffier.cost(row["steps"], settings)
        row["alignment"] = row.get("weight", 0.0)
    assert {row["nfe"] for row in rows} == {9, 19} and len({str(row) for row in rows}) == len(rows) == 66
    # Weight 7 is right everywhere, RAAG and DiffIER by half: so its gain is -1/2 there, and +1/2 on other weights.
    right = [[1, 1] if row.get("weight") == 7 and "step_size" not in row else [0, "step_size" in row] for row in rows]
    found = emoji_diffier.with_gains(rows, [Stored(np.array(one, bool)) for one in right])
    assert {(row.get("weight"), row.get("gain"), row.get("gain_to_best")) for row in found if "step_size" in row} == {
        *((weight, 0.5, -0.5) for weight in (1.5, 2.0, 3.0, 5.0, None)),
        (7.0, -0.5, -0.5),
    }
    assert not any("gain" in row for row in found if "step_size" not in row)


def test_the_iterated_rows_cost_what_the_table_says(tmp_path, monkeypatch):
    monkeypatch.setattr(emoji_diffier, "BUDGETS", (5,))
    monkeypatch.setattr(emoji_diffier, "ROUNDS", 2)
    monkeypatch.setattr(emoji_diffier, "IMAGES", 1)
    out = tmp_path / "diffier.json"
    command = ["--samples", "4", "--only", "weight=3", "w_max=0", "--out", str(out), "--work", str(tmp_path)]
    emoji_diffier.STUDY.main(command)
    meta, rows = read_report(out)
    assert {row["kind"]: row["steps"] for row in rows} == {
        "CFG": 5,
        "pair, reuse": 5,
        **dict.fromkeys(("pair", "renoise", "manifold", "gradient"), 3),
    }
    for row in rows:
        assert row["nfe"] <= 5 and row["time_ratio"] > 0 and ("error" in row) != row.get("reuse", False)
        assert ("gain_interval" in row) == (row["method"] == "cfg+diffier" and row["nfe"] == 5)
    assert rows[0]["effective_weight"] == pytest.approx(3, abs=0.01)
    assert "4 images a row" in emoji_diffier.document(meta, rows)
    assert "3.00 to 3.00" in emoji_diffier.ranges(meta, rows)


def test_the_classes_that_guide_have_the_names_that_are_asked_for():
    timm = pytest.importorskip("timm.data")
    known = timm.ImageNetInfo()
    for name, number in emoji_elucd.CLASSES.items():
        words = known.index_to_description(number).lower().replace("hotdog", "hot dog").split(", ")
        assert name in words or name == "lady beetle"
    captions = EmojiJudge.load_config(Path(__file__).parents[2] / "assets" / "emoji-judge")["captions"]
    asked = {caption.split(" ", 1)[1] for caption in emoji_elucd.asked_for(captions)}
    assert asked == emoji_elucd.CLASSES.keys()


def test_a_gain_of_the_classifier_is_over_plain_guidance_with_the_same_weight():
    rows = [{"method": "cfg", "weight": 1.0}, {"method": "cfg", "weight": 2.0}, {"method": "cfg+elucd", "weight": 2.0}]
    scores = [dict.fromkeys(emoji_elucd.SCORES, np.array(one, np.float32)) for one in ([0, 0], [1, 0], [1, 1])]
    found = emoji_elucd.with_gains(rows, scores)
    assert [row.get("gain") for row in found] == [None, None, 0.5] and found[2]["style_gain"] == 0.5
