"""The check of families: what the study counts, and that its results hold what the page says."""

import json
from dataclasses import fields
from pathlib import Path

import pytest

from diffusion_guidance import Family
from scripts.studies import coverage_alarms
from tests.attachment.wrong_facts import TEN
from tests.tiny_families import FAMILIES


REPORT = json.loads((Path(__file__).parents[2] / "docs/results/coverage-check.json").read_text())
WRONG, RIGHT = ([row for row in REPORT["rows"] if row["kind"] == kind] for kind in ("wrong", "right"))


def test_every_field_of_a_family_is_wrong_once_and_none_is_believed():
    rows = coverage_alarms.wrong(next(tiny for tiny in FAMILIES if tiny.name == "Flux"))
    assert {row["field"] for row in rows} == {field.name for field in fields(Family)}
    assert {row["outcome"] for row in rows} == {"refused", "no effect"}
    assert all(row["reason"] for row in rows if row["outcome"] == "refused")


def test_what_ships_has_ten_families_with_every_field_and_none_believed():
    assert {row["pipeline"] for row in WRONG} == set(TEN)
    for name in TEN:
        assert {row["field"] for row in WRONG if row["pipeline"] == name} == {field.name for field in fields(Family)}
    assert {row["outcome"] for row in WRONG} == {"refused", "no effect"}


@pytest.mark.parametrize("dtype", coverage_alarms.DTYPES)
def test_what_ships_has_no_false_alarm(dtype):
    outcomes = [row.get(dtype) for row in RIGHT]
    assert "false alarm" not in outcomes and outcomes.count("passes") >= 150


def test_the_tables_count():
    rows = [
        {"kind": "wrong", "pipeline": "Flux", "field": "calls", "outcome": "refused"},
        {"kind": "wrong", "pipeline": "Flux", "field": "time", "outcome": "believed"},
        {"kind": "right", "pipeline": "A", "float32": "passes", "bfloat16": "false alarm", "bfloat16_reason": "off"},
        {"kind": "right", "pipeline": "B", "result": "not run", "reason": "no instance"},
    ]
    assert "**believed**" in coverage_alarms.facts_table({}, rows)
    assert "| false alarm | 0 | 1 | 0 |" in coverage_alarms.alarms_table({}, rows)
    assert "no instance" in coverage_alarms.others_table({}, rows) and "off" in coverage_alarms.others_table({}, rows)
