"""The tables of the peers' page, by hand."""

import pytest

from scripts.studies import peers_report as report


ROW = {"world": "digits", "samples": 5, "steps": 2, "nfe": 2.0, "alignment": 1.0, "effective_weight": 2.0}


def row(method: str, setting: dict, frechet: float, *interval: float) -> dict:
    found = {"frechet_difference": sum(interval) / 2, "frechet_difference_interval": list(interval)} if interval else {}
    found |= {"difference_to_best_interval": [frechet - 1.1, frechet - 0.9]}  # CFG's best is 1
    return ROW | {"method": method, "frechet": frechet} | setting | found


ROWS = [
    row("CFG", {"weight": 1.0}, 3.0, 0.1, 0.3),
    row("CFG", {"weight": 2.0}, 1.0),
    row("a", {"prior": 0.5}, 0.5, -2.0, -1.0),
    row("a", {"prior": 0.7}, 0.6, 1.0, 2.0),
    row("b", {"w_max": 4.0}, 0.4, -1.0, 0.5),
    row("c", {"scale": 1.0}, 0.9),
    row("d", {"weight": 3.0}, 2.0, 0.5, 1.0),
    row("e", {"weight": 9.0}, 30.0, -5.0, -4.0),
]


def test_each_method_at_its_best_setting():
    found = [(line["method"], line["setting"]) for line in report.best(ROWS)]
    assert found == [
        ("b", "w_max 4"),
        ("a", "prior 0.5"),
        ("c", "scale 1"),
        ("CFG", "weight 2"),
        ("d", "weight 3"),
        ("e", "weight 9"),
    ]


def test_ranks_by_the_difference_at_equal_weight_and_names_the_gains_that_survive():
    found = {line["method"]: line["survives"] for line in report.ranked(ROWS)}
    assert list(found.items())[:4] == [("a", "yes"), ("e", "at that weight only"), ("b", "no"), ("d", "worse")]
    assert found["c"] == "no CFG there" and found["CFG"] == "-"
    text = report.ranked_table(ROWS)
    assert "5 images a row. The gain survives for a." in text
    assert "No gain survives." in report.ranked_table(ROWS[:2])


def test_rows_without_effective_weights_are_not_ranked():
    assert report.ranked_table([{k: v for k, v in ROWS[0].items() if k != "effective_weight"}]) == report.UNKNOWN


def test_a_row_has_one_setting():
    with pytest.raises(ValueError, match="unpack"):
        report.with_setting(ROWS[0] | {"prior": 0.5})
