"""The Frechet distance equals scipy, torchmetrics, torch-fidelity, clean-fid on the same features, and closed forms."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.linalg
import torch

from diffusion_guidance.evaluation import Moments, frechet_distance
from diffusion_guidance.evaluation.metrics.frechet import factor


def pair(dim: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of features: well-conditioned, near-singular, or fewer samples than dimensions."""
    rng = np.random.default_rng(dim)
    count = dim // 2 if kind == "few" else 3 * dim
    scale = np.logspace(0, -5, dim) if kind == "near-singular" else np.ones(dim)
    mix = rng.standard_normal((dim, dim)) / np.sqrt(dim) * scale
    return rng.standard_normal((count, dim)) @ mix.T, 1.1 * rng.standard_normal((count, dim)) @ mix.T + 0.1


def statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(0), np.cov(x, rowvar=False)


def by_scipy(x, y):
    (mean_x, cov_x), (mean_y, cov_y) = statistics(x), statistics(y)
    root = scipy.linalg.sqrtm(cov_x @ cov_y)
    return ((mean_x - mean_y) ** 2).sum() + np.trace(cov_x + cov_y) - 2 * np.trace(root).real


def by_torchmetrics(x, y):
    return statistics_by_torchmetrics(statistics(x), statistics(y))


def by_torch_fidelity(x, y):
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    both = [fid_features_to_statistics(torch.from_numpy(z)) for z in (x, y)]
    return fid_statistics_to_metric(*both, verbose=False)["frechet_inception_distance"]


def by_clean_fid(x, y):
    return statistics_by_clean_fid(statistics(x), statistics(y))


OTHERS = [by_scipy, by_torchmetrics, by_torch_fidelity, by_clean_fid]


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
@pytest.mark.parametrize("kind", ["well-conditioned", "near-singular", "few"])
@pytest.mark.parametrize("dim", [16, 64])
@pytest.mark.parametrize("other", OTHERS)
def test_equals(other, dim, kind):
    x, y = pair(dim, kind)
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(other(x, y), rel=1e-6)


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
@pytest.mark.parametrize("kind", ["well-conditioned", "near-singular", "few"])
@pytest.mark.parametrize("other", [by_torch_fidelity, by_torchmetrics, by_clean_fid])
def test_equals_in_768_dimensions(other, kind):
    x, y = pair(768, kind)
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(other(x, y), rel=1e-6)


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
@pytest.mark.parametrize(
    "other", [by_torch_fidelity, by_torchmetrics, pytest.param(by_clean_fid, marks=pytest.mark.slow)]
)
def test_equals_in_2048_dimensions(other):
    """Fewer samples than dimensions, as in every quick look with Inception; whose root takes clean-fid long."""
    x, y = (part[:300] for part in pair(2048, "few"))
    assert frechet_distance(Moments.of(x), Moments.of(y)) == pytest.approx(other(x, y), rel=1e-6)


def gaussian(values: np.ndarray, seed: int = 0) -> SimpleNamespace:
    """Covariance with the eigenvalues `values`, in one frame for one seed, so that two of them commute."""
    frame, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(values), len(values))))
    covariance = (frame * values) @ frame.T
    return SimpleNamespace(mean=np.zeros(len(values)), covariance=(covariance + covariance.T) / 2)


def statistics_by_torch_fidelity(*sides):
    from torch_fidelity.metric_fid import fid_statistics_to_metric

    both = ({"mu": mean, "sigma": covariance} for mean, covariance in sides)
    return fid_statistics_to_metric(*both, verbose=False)["frechet_inception_distance"]


def statistics_by_torchmetrics(*sides):
    from torchmetrics.image.fid import _compute_fid

    return float(_compute_fid(*(torch.from_numpy(part) for side in sides for part in side)))


def statistics_by_clean_fid(*sides):
    from cleanfid.fid import frechet_distance as clean_fid

    if "disp" not in inspect.signature(scipy.linalg.sqrtm).parameters:
        pytest.skip("clean-fid passes an argument that scipy 1.18 removed")
    return clean_fid(*(part for side in sides for part in side))


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
@pytest.mark.parametrize("others", [statistics_by_torch_fidelity, statistics_by_torchmetrics, statistics_by_clean_fid])
def test_near_singular_is_right_where_theirs_is_not(others):
    """Commuting covariances have the closed form sum (sqrt(a) - sqrt(b))^2."""
    values = np.logspace(0, -10, 64)
    a, b = gaussian(values), gaussian(values * 1.001)
    truth = ((np.sqrt(values) - np.sqrt(values * 1.001)) ** 2).sum()
    theirs = others(*((side.mean, side.covariance) for side in (a, b)))
    error = abs(frechet_distance(a, b) - truth)
    assert error < 1e-6 * truth
    assert abs(theirs - truth) > 0.01 * truth


def test_degenerate_identities():
    x, y = pair(24, "few")
    a, b = Moments.of(x), Moments.of(y)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert frechet_distance(a, Moments.of(x + 2.0)) == pytest.approx(4 * 24, rel=1e-10)
    constant = Moments.of(np.zeros((3, 24)))
    assert frechet_distance(constant, constant) == 0
    assert frechet_distance(a, constant) == pytest.approx((x.mean(0) ** 2).sum() + np.trace(a.covariance))
    one = Moments.of(x[:, :1]), Moments.of(y[:, :1])
    roots = [np.sqrt(float(m.covariance[0, 0])) for m in one]
    means = [m.mean[0] for m in one]
    assert frechet_distance(*one) == pytest.approx((means[0] - means[1]) ** 2 + (roots[0] - roots[1]) ** 2)


def test_errors():
    x, y = pair(16, "few")
    with pytest.raises(ValueError, match="16 and 8 dimensions"):
        frechet_distance(Moments.of(x), Moments.of(y[:, :8]))
    with pytest.raises(ValueError, match="at least two samples"):
        frechet_distance(Moments.of(x[:1]), Moments.of(y))
    broken = SimpleNamespace(mean=np.zeros(2), covariance=np.array([[1.0, np.nan], [np.nan, 1.0]]))
    with pytest.raises(ValueError, match="not finite"):
        frechet_distance(broken, broken)
    # The last has a zero diagonal, where a Cholesky factorization ends at once.
    for covariance in (np.diag([1.0, -0.5]), -np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]])):
        broken = SimpleNamespace(mean=np.zeros(2), covariance=covariance)
        with pytest.raises(ValueError, match="negative eigenvalue"):
            frechet_distance(broken, gaussian(np.ones(2)))


def test_the_factor_of_a_singular_covariance_has_its_rank():
    for count, rank in ((30, 29), (200, 64)):
        covariance = np.cov(np.random.default_rng(0).standard_normal((count, 64)), rowvar=False)
        root = factor(covariance)
        assert root.shape == (64, rank)
        np.testing.assert_allclose(root @ root.T, covariance, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", ["well-conditioned", "few"])
def test_statistics_stored_in_float32(kind):
    """Their rounding leaves small negative eigenvalues where the covariance is singular."""
    exact = [SimpleNamespace(mean=mean, covariance=covariance) for mean, covariance in map(statistics, pair(64, kind))]
    rounded = [SimpleNamespace(mean=a.mean, covariance=a.covariance.astype(np.float32).astype(float)) for a in exact]
    if kind == "few":
        assert np.linalg.eigvalsh(rounded[0].covariance)[0] < -1e-9
    assert frechet_distance(*rounded) == pytest.approx(frechet_distance(*exact), rel=1e-5)
