import pytest

from scripts.studies import diffier_report as study_diffier_report
from scripts.studies import diffier_rows as study_diffier_rows


def test_the_summary_by_hand():
    frechet = {"cfg": (4.0, 1.0, 3.0), "diffier": (3.0, 2.0, 2.5)}
    rows = [
        study_diffier_rows.row(method, weight, 10)
        | {"world": "digits", "frechet": value, "alignment": 0.9, "error": -value}
        for method, values in frechet.items()
        for weight, value in zip((1.0, 2.0, 4.0), values, strict=True)
    ]
    rows = [
        row | {"nfe": 10.0, "cond_error": row["frechet"] + row["weight"], "frechet_corrected": row["frechet"] - 0.5}
        for row in rows
    ]
    for row, other in zip(rows[3:], rows[:3], strict=True):
        row["difference"] = row["frechet"] - other["frechet"]
        row["difference_interval"] = (row["difference"] - 0.7, row["difference"] + 0.7)
    plain, ours = study_diffier_report.summary(rows)
    assert plain["better, worse than without"] is None
    assert ours["better, worse than without"] == "2 (1), 1 (1)"
    assert plain["rank correlation, error"] == pytest.approx(-1)
    assert plain["rank correlation, cond_error"] == pytest.approx(0.5)
    assert (plain["weight"], plain["frechet"], plain["steps"], ours["steps"]) == (2, 1, 10, 5)
    # From 1 the curve rises by 3 to weight 1 and by 2 to weight 4; 0.5 less, it leaves 0.6 sooner.
    assert plain["within 20 %"] == "1.93 to 2.20, 0.27 wide"
    assert plain["within 20 %, minus bias"] == "1.97 to 2.10, 0.13 wide"
    best = study_diffier_report.best_rows(rows)
    assert [(row["method"], row["weight"]) for row in best] == [("cfg", 2.0), ("diffier", 2.0)]
    assert (best[0]["low"], best[0]["high"]) == pytest.approx((2 - 0.1 / 3, 2.1))
    # 5 steps of DiffIER have no plain curve here, and are not shown at equal steps.
    assert [line["method"] for line in study_diffier_report.summary(rows, "steps")] == ["CFG"]
