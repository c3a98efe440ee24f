import numpy as np
import pytest
from scipy.optimize import brentq

from diffusion_guidance.evaluation.metrics.sensitivity import rank_correlation, sensitivity


def rows(weights, values):
    return [{"weight": w, "frechet": v} for w, v in zip(weights, values, strict=True)]


def test_the_range_is_where_the_curve_crosses():
    """Against a root finder on the interpolated curve, in any order of the rows."""
    weights, values = [0, 0.5, 1, 2, 3, 4, 8], [9.0, 4.0, 2.0, 1.0, 1.1, 2.5, 7.0]
    found = sensitivity(rows(weights, values)[::-1])

    def beyond(weight):
        return np.interp(weight, weights, values) - 1.2

    assert found["best"] == 1.0 and found["at"] == 2
    assert found["low"] == pytest.approx(brentq(beyond, 1, 2))
    assert found["high"] == pytest.approx(brentq(beyond, 3, 4))
    assert found["width"] == pytest.approx(found["high"] - found["low"])


def test_the_range_ends_at_the_first_crossing_and_at_the_last_row():
    found = sensitivity(rows([1, 2, 3, 4, 5], [1.1, 1.0, 2.0, 1.0, 1.0]))
    assert found["at"] == 2 and found["low"] == 1 and found["high"] == pytest.approx(2.2)
    assert sensitivity(rows([1, 2], [5.0, 5.5]), share=0.2) == {"best": 5, "at": 1, "low": 1, "high": 2, "width": 1}
    assert sensitivity(rows([1, 2, 3], [3.0, 2.0, 1.0]), share=0.5)["low"] == pytest.approx(2.5)


def test_what_is_refused():
    for wrong in ([], rows([1, 1], [2.0, 3.0]), rows([1, 2], [-1.0, 3.0])):
        with pytest.raises(ValueError, match="each another weight"):
            sensitivity(wrong)


def test_rank_correlation_asks_for_order_alone():
    values = [0.1, 5.0, 7.0, 900.0]
    part = [{"error": value, "frechet": value**3} for value in values]
    assert rank_correlation(part, "error", "frechet") == pytest.approx(1)
    part[0]["frechet"] = 1e12
    ranks = np.array([3, 0, 1, 2])
    expected = np.corrcoef(np.arange(4), ranks)[0, 1]
    assert rank_correlation(part, "error", "frechet") == pytest.approx(expected)
