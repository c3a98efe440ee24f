"""Which rows of a study a command line asks for; its plots, and whether they are up to date."""

from pathlib import Path

import pytest
from PIL import Image

from scripts.studies import study, tables
from scripts.studies.study import Report, Run


ROWS = [{"weight": 1.0, "steps": 5}, {"weight": 3.0, "scale": 4.0}, {"weight": 3.0, "scale": 16.0}]


def wanted(only: dict) -> list[int]:
    run = Run(None, (), only, Path(), Path(), Path())
    return [ROWS.index(row) for row in run.wanted(ROWS)]


def test_rows_without_the_field_stay_and_numbers_are_compared_as_numbers():
    assert wanted({}) == [0, 1, 2]
    assert wanted({"weight": ["3"]}) == wanted({"weight": ["3.0"]}) == [1, 2]
    assert wanted({"scale": ["16"]}) == [0, 2]
    assert wanted({"scale": ["4", "16"], "weight": ["1", "3"]}) == [0, 1, 2]


def test_no_row_at_all_is_refused_with_the_values_there_are():
    with pytest.raises(ValueError, match=r"leaves no row; there are {'weight': \['1', '3'\]}"):
        wanted({"weight": ["2"]})


def test_the_plots_that_ship_show_their_reports_as_they_are():
    assert tables.stale_plots() == [], "python -m scripts.studies.tables draws them again"


def test_a_plot_says_which_report_it_shows(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "RESULTS", tmp_path)
    seen = []

    def draw(path: Path, rows: list[dict]) -> None:
        seen.append(rows)
        if rows[0]["weight"] < 3:
            Image.new("RGB", (4, 4), "red").save(path)

    report = Report("some", lambda run: ({}, []), (), {"-one": draw})
    path = tmp_path / "some.json"
    path.write_text('{"meta": {}, "rows": [{"weight": 1}]}')
    assert report.stale_plots() == [tmp_path / "some-one.png"]  # missing
    assert report.draw(path) == [tmp_path / "some-one.png"] and report.stale_plots() == []
    assert seen == [[{"weight": 1}]] and Image.open(tmp_path / "some-one.png").getpixel((0, 0)) == (255, 0, 0)
    path.write_text('{"meta": {}, "rows": [{"weight": 2}]}')
    assert report.stale_plots() == [tmp_path / "some-one.png"]
    path.write_text('{"meta": {}, "rows": [{"weight": 3}]}')
    assert report.draw(path) == [] and not (tmp_path / "some-one.png").exists()  # nothing to show
