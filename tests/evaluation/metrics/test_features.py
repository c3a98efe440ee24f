import numpy as np
import pytest
import torch

from diffusion_guidance.evaluation.metrics.features import as_features, as_sides


def test_any_float_type_becomes_float64_without_a_change():
    values = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    for given in (values, torch.from_numpy(values), torch.from_numpy(values).requires_grad_(True), values.tolist()):
        found = as_features(given)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, values.astype(np.float64))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_refused_with_its_row(value):
    features = torch.zeros(4, 3)
    features[2, 1] = value
    with pytest.raises(ValueError, match="1 of 4 feature vectors are not finite, the first at row 2"):
        as_features(features)


def test_large_numbers_are_finite_though_their_sum_is_not():
    largest = np.full((1, 3), np.finfo(np.float64).max)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(as_features(largest), largest)


@pytest.mark.parametrize("shape", [(3,), (2, 3, 4)])
def test_only_matrices_are_features(shape):
    with pytest.raises(ValueError, match="must have the shape"):
        as_features(np.zeros(shape))


def test_sides_have_one_dimension_and_enough_samples():
    x, y = as_sides(np.zeros((3, 2)), torch.ones(2, 2), least=2)
    assert x.shape == (3, 2) and y.sum() == 4
    with pytest.raises(ValueError, match="the two sides have 2 and 3 dimensions"):
        as_sides(np.zeros((3, 2)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="at least 4 samples are needed on each side"):
        as_sides(np.zeros((3, 2)), np.zeros((5, 2)), least=4)
