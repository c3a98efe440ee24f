"""Intervals cover the truth as often as they say, and the jackknife finds a known bias."""

import numpy as np
import pytest
import torch

from diffusion_guidance.evaluation import Moments, frechet_estimate, jackknife, mean_estimate


def test_mean_figure_of_proportions_is_wilsons():
    figure = mean_estimate("alignment", torch.tensor([True] * 8 + [False] * 2))
    assert (figure.value, figure.samples) == (0.8, 10)
    z, p, n = 1.959964, 0.8, 10  # the textbook form
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    assert figure.interval == pytest.approx([(centre + s * half) / (1 + z**2 / n) for s in (-1, 1)], rel=1e-5)
    assert mean_estimate("alignment", torch.ones(50, dtype=torch.bool)).interval[0] < 0.95


def test_bootstrap_is_repeatable_and_near_the_normal_interval():
    values = np.random.default_rng(0).standard_normal(2000)
    first, second = (mean_estimate("x", torch.from_numpy(values)) for _ in range(2))
    assert first == second
    half = 1.96 * values.std() / np.sqrt(2000)
    assert first.interval == pytest.approx([values.mean() - half, values.mean() + half], abs=0.1 * half)
    assert mean_estimate("x", np.array([2.0])).interval is None


def test_as_row_leaves_out_what_there_is_not():
    assert mean_estimate("x", np.array([2.0])).as_row() == {"x": 2.0}
    row = mean_estimate("x", np.array([True]), "few").as_row()
    assert row["x_warning"] == "few"
    assert len(row["x_interval"]) == 2


def test_jackknife_finds_variance_and_bias():
    """The plug-in variance is too small by exactly var / N; the jackknife of a mean gives Student's interval."""
    x = np.random.default_rng(0).standard_normal(40)
    (low, high), bias = jackknife(x.mean(), [np.delete(x, i).mean() for i in range(40)])
    assert bias == pytest.approx(0, abs=1e-12)
    assert (high - low) / 2 == pytest.approx(2.0227 * x.std(ddof=1) / np.sqrt(40), rel=1e-4)
    _, bias = jackknife(x.var(), [np.delete(x, i).var() for i in range(40)])
    assert bias == pytest.approx(-x.var(ddof=1) / 40, rel=1e-9)
    with pytest.raises(ValueError, match="two groups"):
        jackknife(1.0, [1.0])


def test_frechet_interval_covers_and_warns():
    """Many small experiments with a known answer; shifted unit Gaussians are shift^2 * D apart."""
    rng = np.random.default_rng(0)
    dim, shift = 4, 1.0

    class Truth:
        mean, covariance = np.zeros(dim), np.eye(dim)

    covered = 0
    for _ in range(60):
        x = rng.standard_normal((1000, dim)) + shift
        figure = frechet_estimate([Moments.of(part) for part in np.array_split(x, 10)], Truth)
        covered += figure.interval[0] <= shift**2 * dim <= figure.interval[1]
    assert 50 <= covered <= 60
    assert figure.warning is None
    few = rng.standard_normal((40, dim))
    assert "bias of 40 samples" in frechet_estimate([Moments.of(p) for p in np.array_split(few, 10)], Truth).warning
    fewer = np.array_split(few[:4], 2)
    assert "singular" in frechet_estimate([Moments.of(part) for part in fewer], Truth).warning


def test_what_is_no_figure_is_refused():
    for bad in (torch.zeros(0), torch.zeros(2, 2)):
        with pytest.raises(ValueError, match="one value per sample"):
            mean_estimate("x", bad)
    with pytest.raises(ValueError, match="not finite"):
        mean_estimate("x", torch.tensor([1.0, float("nan")]))
