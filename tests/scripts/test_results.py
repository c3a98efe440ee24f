"""The results that ship: their form, and that the documents say what they say."""

import json
import subprocess
import sys
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


def test_the_tables_are_those_of_the_results():
    documents = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    before = [path.read_text() for path in documents]
    subprocess.run([sys.executable, ROOT / "scripts" / "tables.py"], check=True, capture_output=True)
    assert [path.read_text() for path in documents] == before
