import math

import numpy as np
import pytest
import torch
from scipy.linalg import svdvals

from diffusion_guidance.evaluation.metrics.vendi import vendi_estimate, vendi_score


@pytest.mark.parametrize("shape", [(12, 40), (40, 12), (5, 5)])
def test_equals_the_definition(shape):
    """By the kernel of all pairs written as a loop, and its singular values."""
    x = np.random.default_rng(0).normal(size=shape)
    n = len(x)
    kernel = np.array([[a @ b / math.sqrt(a @ a) / math.sqrt(b @ b) for b in x] for a in x])
    shares = svdvals(kernel / n)  # of a positive semi-definite matrix, its eigenvalues
    expected = math.exp(-sum(share * math.log(share) for share in shares if share > 1e-14))
    assert vendi_score(x) == pytest.approx(expected, rel=1e-9)


def test_is_the_number_of_different_samples():
    assert vendi_score(np.eye(7)) == pytest.approx(7)
    assert vendi_score(np.repeat(np.eye(3), 5, axis=0)) == pytest.approx(3)
    assert vendi_score(np.ones((6, 4)) * np.arange(1, 7)[:, None]) == pytest.approx(1)  # lengths do not count


def test_two_samples_at_an_angle_are_closed_form():
    """Eigenvalues (1 + cos) / 2 and (1 - cos) / 2."""
    cosine = 0.6
    shares = [(1 + cosine) / 2, (1 - cosine) / 2]
    expected = math.exp(-sum(share * math.log(share) for share in shares))
    assert vendi_score(torch.tensor([[1.0, 0.0], [0.6, 0.8]])) == pytest.approx(expected, rel=1e-6)


def test_the_estimate_warns_while_more_samples_would_add():
    rng = np.random.default_rng(0)
    few, many = (vendi_estimate(rng.normal(size=(count, 3))) for count in (8, 400))
    assert "compare only at equal counts" in few.warning and few.samples == 8
    assert many.warning is None and many.interval is None and 2.9 < many.value <= 3


@pytest.mark.parametrize("x", [np.zeros((3, 2)), np.zeros((0, 2)), np.array([[1.0, np.nan]])])
def test_samples_without_a_direction_are_refused(x):
    with pytest.raises(ValueError, match=r"direction|not finite"):
        vendi_score(x)
