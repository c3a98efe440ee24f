"""Precision and recall equal torch-fidelity; all four equal a direct transcript of their definitions."""

import numpy as np
import pytest
import torch

from diffusion_guidance.evaluation import density_coverage, neighbour_estimates, precision_recall


def sides(n: int = 300, m: int = 250, dim: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, dim)), 0.8 * rng.standard_normal((m, dim)) + 0.5


def direct(real: np.ndarray, fake: np.ndarray, k: int) -> dict[str, float]:
    def table(a, b):
        return np.sqrt(np.square(a[:, None] - b[None]).sum(-1))

    real_radii = np.sort(table(real, real), 1)[:, k]
    fake_radii = np.sort(table(fake, fake), 1)[:, k]
    across = table(real, fake)
    return {
        "precision": (across <= real_radii[:, None]).any(0).mean(),
        "recall": (across <= fake_radii[None]).any(1).mean(),
        "density": (across < real_radii[:, None]).sum(0).mean() / k,
        "coverage": (across.min(1) < real_radii).mean(),
    }


@pytest.mark.parametrize("k", [1, 3, 5])
def test_equals_the_definitions(k):
    real, fake = sides()
    precision, recall = precision_recall(real, fake, k)
    density, coverage = density_coverage(real, fake, k)
    assert [len(values) for values in (precision, recall, density, coverage)] == [250, 300, 250, 300]
    ours = {"precision": precision, "recall": recall, "density": density, "coverage": coverage}
    assert {name: values.double().mean().item() for name, values in ours.items()} == pytest.approx(
        direct(real, fake, k), rel=1e-12
    )


def test_equals_torch_fidelity():
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    real, fake = sides(1100, 1050, 64)  # more than one block
    theirs = calculate_precision_recall_full(torch.from_numpy(fake), torch.from_numpy(real), neighborhood=3)
    ours = tuple(values.float().mean().item() for values in precision_recall(real, fake))
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_balls_reach_to_the_neighbours_of_the_papers():
    """The third one for precision and recall (arXiv 1904.06991), the fifth for density and coverage (2002.09797)."""
    real, fake = sides()
    for measure, k in ((precision_recall, 3), (density_coverage, 5)):
        for found, expected in zip(measure(real, fake), measure(real, fake, k=k), strict=True):
            assert torch.equal(found, expected)


def test_limits():
    real, _ = sides()
    for values in (*precision_recall(real, real), density_coverage(real, real)[1]):
        assert values.all()
    for values in (*precision_recall(real, real + 100), *density_coverage(real, real + 100)):
        assert not values.any()


def test_figures_and_warnings():
    real, fake = sides(300, 300)
    figures = {figure.name: figure for figure in neighbour_estimates(real, fake)}
    assert list(figures) == ["precision", "recall", "density", "coverage"]
    assert "rule: below 10000" in figures["recall"].warning
    assert figures["coverage"].warning is None
    assert all(f.interval[0] <= f.value <= f.interval[1] for f in figures.values())
    assert "250 samples against 300" in neighbour_estimates(*sides())[3].warning
    with pytest.raises(ValueError, match="at least 4 samples"):
        precision_recall(real, fake[:3])
