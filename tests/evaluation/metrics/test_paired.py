import numpy as np
import pytest

from diffusion_guidance.evaluation import Moments, frechet_distance, frechet_estimate
from diffusion_guidance.evaluation.metrics.paired import Distances, corrected_estimate, difference_estimate


TRUE = Moments.of(np.random.default_rng(0).normal(size=(20_000, 4)))
SHIFT = np.array([0.3, 0.0, 0.0, 0.0])


def distances(features: np.ndarray, parts: int = 10) -> Distances:
    return Distances.of([Moments.of(part) for part in np.array_split(features, parts)], TRUE)


def test_the_whole_and_the_parts_are_those_of_the_distance_itself():
    features = np.random.default_rng(1).normal(size=(200, 4))
    found = distances(features)
    assert found.whole == pytest.approx(frechet_distance(Moments.of(features), TRUE), rel=1e-9)
    rest = np.delete(features, slice(20, 40), axis=0)
    assert found.without[1] == pytest.approx(frechet_distance(Moments.of(rest), TRUE), rel=1e-9)
    assert found.samples == 200 and len(found.without) == 10


def test_the_bias_of_few_samples_is_taken_out():
    """True samples are at a distance of nearly 0, and few of them seem further off."""
    rng = np.random.default_rng(2)
    found = [distances(rng.normal(size=(60, 4))) for _ in range(40)]
    plain = np.mean([each.whole for each in found])
    assert plain > 0.05 and abs(np.mean([corrected_estimate(each).value for each in found])) < plain / 5


def test_the_interval_of_a_difference_holds_the_truth_and_is_small():
    """Two methods that differ by a shift of the mean, on the same chance: 0.3^2 more, whatever the chance."""
    rng, inside = np.random.default_rng(3), 0
    for _ in range(60):
        features = rng.normal(size=(300, 4))
        near, far = distances(features), distances(features + SHIFT)
        figure = difference_estimate(far, near)
        # The chance of the mean stays: the difference is 0.09 + 0.6 * (mean - true mean).
        inside += figure.interval[0] <= SHIFT @ SHIFT <= figure.interval[1]
    assert 0.85 <= inside / 60 <= 1
    same = difference_estimate(near, near)
    assert same.value == 0 and same.interval == (0, 0)
    other = distances(features * 1.001)  # nearly the same method
    low, high = difference_estimate(other, near).interval
    alone = frechet_estimate([Moments.of(part) for part in np.array_split(features, 10)], TRUE).interval
    assert high - low < (alone[1] - alone[0]) / 10


def test_runs_that_do_not_belong_together_are_refused():
    features = np.random.default_rng(1).normal(size=(200, 4))
    for other in (distances(features[:100]), distances(features, parts=5)):
        with pytest.raises(ValueError, match="the same seeds"):
            difference_estimate(distances(features), other)
    with pytest.raises(ValueError, match="at least two"):
        distances(features, parts=1)
