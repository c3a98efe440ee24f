"""Every table of the documents is registered, has a command that makes it, and says what its report says."""

import importlib.util
import re
from pathlib import Path

import pytest

from diffusion_guidance.evaluation.report import read_report
from scripts.studies import families, study, tables
from scripts.studies.__main__ import COMMANDS
from scripts.studies.__main__ import main as make


ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
NAMES = [f"{table.document} {table.mark}" for table in tables.TABLES]


@pytest.mark.parametrize("table", tables.TABLES, ids=NAMES)
def test_a_table_is_what_its_report_gives(table):
    assert table.made() == table.written(), f"python -m scripts.studies.tables writes {table.document} again"


def test_every_table_of_a_document_is_registered_once():
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    found = [
        f"{path.relative_to(ROOT)} {mark}"
        for path in documents
        for mark in re.findall(r"<!-- (.*?) -->", path.read_text(encoding="utf-8"))
        if mark != "end"
    ]
    assert sorted(found) == sorted(NAMES)


def test_every_report_has_one_command_and_every_command_exists():
    made = [name for command in COMMANDS for name in command.results]
    assert sorted(made) == sorted(path.stem for path in RESULTS.glob("*.json"))
    assert {table.result for table in tables.TABLES} - {None} <= set(made)
    for command in COMMANDS:
        assert importlib.util.find_spec(command.module) is not None


@pytest.fixture
def document(tmp_path, monkeypatch):
    """A document with one table, of a report of one row; its path."""
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(study, "ROOT", tmp_path)
    monkeypatch.setattr(study, "RESULTS", tmp_path / "docs/results")
    (tmp_path / "docs/results").mkdir(parents=True)
    (tmp_path / "docs/results/some.json").write_text('{"meta": {}, "rows": [{"value": 1}]}')
    table = study.Table("page.md", "some", "some", lambda meta, rows: f"{rows[0]['value']}\n")
    monkeypatch.setattr(tables, "TABLES", (table,))
    monkeypatch.setattr(tables, "STUDIES", {})
    return tmp_path / "page.md"


def test_a_stale_table_fails_the_check_and_is_left_as_it_is(document):
    document.write_text("<!-- some -->\n2\n<!-- end -->\n")
    with pytest.raises(SystemExit, match=r"stale: page.md \(some\)"):
        tables.main(["--check"])
    assert "2" in document.read_text()
    tables.main([])
    assert document.read_text() == "<!-- some -->\n1\n<!-- end -->\n"
    tables.main(["--check"])


@pytest.mark.parametrize("text", ["", "<!-- some -->\n1\n<!-- end -->\n" * 2])
def test_a_document_without_one_place_for_its_table_is_named(document, text):
    document.write_text(text)
    with pytest.raises(ValueError, match=r"page.md has \d places <!-- some -->"):
        tables.main(["--check"])


def test_the_list_of_families_covers_every_pipeline():
    _, rows = read_report(RESULTS / "families.json")
    assert families.unmeasured(rows) == []
    assert families.unmeasured(rows[1:]) == [rows[0]["pipeline"]]


def test_each_command_can_be_run_alone(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr("subprocess.run", lambda line, **_: ran.append(line[2:]))
    monkeypatch.delenv("DIFFUSERS", raising=False)
    make(["--only", "raag", "upstream", "overhead"])
    assert [line[0] for line in ran] == ["scripts.studies.raag", "scripts.benchmarks", "scripts.studies.tables"]
    assert "DIFFUSERS is not set" in capsys.readouterr().out
    ran.clear()
    monkeypatch.setenv("DIFFUSERS", "checkout")
    make([])
    make(["--benchmarks"])
    modules = [line for line in ran if line[0] != "scripts.studies.tables"]
    assert len(modules) == len(COMMANDS) and ["scripts.studies.upstream_tests", "checkout"] in [m[:2] for m in modules]
