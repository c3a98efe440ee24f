"""Differences at equal effective weight, against closed forms."""

import numpy as np
import pytest

from scripts.studies.peers_difference import Drawn, _means, difference, difference_at_equal_weight


PARTS = 10


def drawn(weight: float, frechet: float, alignment: float, seed: int = 0, spread: float = 0.01) -> Drawn:
    """A row whose replicates scatter about its values; the same seed gives the same chance."""
    noise = spread * np.random.default_rng(seed).standard_normal(PARTS)
    whole = np.zeros(1 + PARTS)
    whole[1:] = noise - noise.mean()
    return Drawn(np.full(1 + PARTS, weight), frechet + whole, alignment + whole, 1000)


def cfg(weight: float) -> Drawn:
    return drawn(weight, 2 + 3 * weight, 0.5 + 0.1 * weight)


CURVE = [cfg(3.0), cfg(1.0), cfg(2.0)]  # in any order


def test_plain_guidance_at_another_weight_differs_by_nothing_and_a_shift_is_found():
    frechet, alignment = difference_at_equal_weight(cfg(1.3), CURVE)
    assert (frechet.name, alignment.name) == ("frechet_difference", "alignment_difference")
    assert frechet.value == pytest.approx(0, abs=1e-12) and alignment.value == pytest.approx(0, abs=1e-12)
    assert max(map(abs, frechet.interval)) < 1e-12  # the chance that rows share drops out
    frechet, alignment = difference_at_equal_weight(drawn(2.5, 2 + 3 * 2.5 - 0.7, 0.75 + 0.2), CURVE)
    assert frechet.value == pytest.approx(-0.7) and alignment.value == pytest.approx(0.2)
    assert frechet.interval == pytest.approx((-0.7, -0.7)) and alignment.interval == pytest.approx((0.2, 0.2))


def test_chance_of_its_own_widens_the_interval_to_that_of_independent_rows():
    (frechet, _) = difference_at_equal_weight(drawn(2.0, 8.0, 0.7, seed=1, spread=0.1), CURVE)
    noise = 0.1 * np.random.default_rng(1).standard_normal(PARTS)
    shared = 0.01 * np.random.default_rng(0).standard_normal(PARTS)
    error = np.sqrt((PARTS - 1) ** 2 / PARTS * np.var(noise - shared, ddof=1))
    half = 2.262157 * error  # Student's t with 9 degrees of freedom
    assert frechet.interval == pytest.approx((-half, half), rel=1e-6)


def test_an_uncertain_weight_moves_the_place_on_the_curve_in_each_replicate():
    own = cfg(1.5)
    weight = own.weight + np.concatenate([[0], np.linspace(-0.05, 0.05, PARTS)])
    (frechet, _) = difference_at_equal_weight(Drawn(weight, own.frechet, own.alignment, 1000), CURVE)
    expected = 2.262157 * np.sqrt((PARTS - 1) / PARTS * np.square(3 * np.linspace(-0.05, 0.05, PARTS)).sum())
    assert frechet.interval == pytest.approx((-expected, expected), rel=1e-6)


@pytest.mark.parametrize(("count", "degree"), [(2, 1), (3, 2), (6, 3)])
def test_a_curve_that_bends_is_followed_and_not_cut_straight(count, degree):
    curve = [drawn(float(w), (w - 1.7) ** degree, 0.5) for w in range(1, count + 1)]
    place = 2.3 if degree == 3 else 1.3  # at an end there are three points
    (frechet, _) = difference_at_equal_weight(drawn(place, (place - 1.7) ** degree, 0.5), curve)
    assert frechet.value == pytest.approx(0, abs=1e-9) and max(map(abs, frechet.interval)) < 1e-9


@pytest.mark.parametrize("weight", [0.9, 3.1, float("nan")])
def test_the_curve_is_not_extended(weight):
    assert difference_at_equal_weight(drawn(weight, 1.0, 1.0), CURVE) == []


def test_the_difference_to_another_row_has_its_name():
    found = difference(cfg(2.0), cfg(1.0), "difference_to_best")
    assert (found.name, found.samples) == ("difference_to_best", 1000) and found.value == pytest.approx(3)


def test_means_without_each_part_by_hand_and_images_without_a_value():
    values = np.array([1.0, 3.0, np.nan, 5.0, 7.0, 8.0])
    assert _means(values, 3) == pytest.approx([24 / 5, 20 / 3, 19 / 4, 9 / 3])
