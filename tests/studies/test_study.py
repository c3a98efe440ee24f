"""Which rows of a study a command line asks for."""

from pathlib import Path

import pytest

from scripts.studies.study import Run


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
