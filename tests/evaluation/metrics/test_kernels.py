"""KID equals torchmetrics; CMMD equals a transcript of its authors' code; both see what they should."""

import numpy as np
import pytest
import torch

from diffusion_guidance.evaluation import cmmd, cmmd_estimate, kid, kid_estimate, kid_subsets


def sides(n: int = 120, m: int = 120, dim: int = 16, shift: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, dim)) + shift, rng.standard_normal((m, dim))


@pytest.mark.parametrize("dim", [16, 768])
def test_kid_equals_torchmetrics(dim):
    from torchmetrics.image.kid import poly_mmd

    x, y = sides(dim=dim)
    assert kid(x, y) == pytest.approx(float(poly_mmd(torch.from_numpy(x), torch.from_numpy(y))), rel=1e-10)


def test_kid_of_unequal_sides_equals_the_definition():
    x, y = sides(7, 5, 3)

    def k(a, b):
        return (a @ b / 3 + 1) ** 3

    within_x = np.mean([k(x[i], x[j]) for i in range(7) for j in range(7) if i != j])
    within_y = np.mean([k(y[i], y[j]) for i in range(5) for j in range(5) if i != j])
    assert kid(x, y) == pytest.approx(within_x + within_y - 2 * np.mean([k(a, b) for a in x for b in y]))


def test_kid_subsets_equal_torch_fidelity():
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = sides()
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=5, kid_subset_size=120, rng_seed=0, verbose=False
    )
    ours = kid_subsets(x, y, subsets=5, size=120)  # of the whole, so whose draw does not matter
    assert ours.mean() == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)
    np.testing.assert_array_equal(kid_subsets(x, y, 4, 50), kid_subsets(x, y, 4, 50))


def test_kid_interval_covers_zero_for_equal_distributions():
    rng = np.random.default_rng(1)
    figures = [kid_estimate(*rng.standard_normal((2, 200, 8)), subsets=50, size=50) for _ in range(40)]
    covered = sum(low <= 0 <= high for low, high in (figure.interval for figure in figures))
    assert covered >= 32
    assert abs(np.mean([figure.value for figure in figures])) < 0.01
    assert figures[0].warning is None
    assert "subsets of 100 instead of 1000" in kid_estimate(*rng.standard_normal((2, 200, 8)), subsets=2).warning


def authors_cmmd(x: np.ndarray, y: np.ndarray) -> float:
    """Transcript of google-research/cmmd/distance.py, for embeddings of unit length."""
    gamma = 1 / (2 * 10**2)

    def mean_kernel(a, b):
        squares = np.sum(a**2, 1)[:, None] + np.sum(b**2, 1)[None] - 2 * a @ b.T
        return np.mean(np.exp(-gamma * squares))

    return 1000 * (mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y))


def test_cmmd_equals_its_authors():
    x, y = sides(130, 90, 32)
    unit = [side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y)]
    assert cmmd(x, y) == pytest.approx(authors_cmmd(*unit), rel=1e-9)
    figure = cmmd_estimate(x, y)
    assert figure.value == pytest.approx(cmmd(x, y), rel=1e-9)
    assert figure.interval[0] < figure.value < figure.interval[1]
    assert cmmd(x, x) == pytest.approx(0, abs=1e-9)


def test_cmmd_warns_of_its_bias():
    x, y = sides(60, 60, 32, shift=0.0)
    assert "is the bias of 60 and 60 samples" in cmmd_estimate(x, y).warning
    x, y = sides(600, 600, 32, shift=2.0)
    assert cmmd_estimate(x, y).warning is None


@pytest.mark.parametrize("measure", [kid, cmmd])
def test_errors(measure):
    x, y = sides()
    with pytest.raises(ValueError, match="16 and 15 dimensions"):
        measure(x, y[:, 1:])
    with pytest.raises(ValueError, match="at least 2 samples"):
        measure(x[:1], y)
    with pytest.raises(ValueError, match="not finite"):
        measure(np.full_like(x, np.inf), y)
    with pytest.raises(ValueError, match="subsets of 121"):
        kid_subsets(x, y, 1, 121)
    with pytest.raises(ValueError, match="all zeros"):
        cmmd(np.zeros_like(x), y)
