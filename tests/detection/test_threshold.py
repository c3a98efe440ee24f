"""Calibration: the threshold's interval and the rate it promises, by exact binomials and by simulation."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from diffusion_guidance.detection.cautions import READING, Check, ImageKinds
from diffusion_guidance.detection.threshold import Calibration, calibrate, needed_samples


IDENTITY = {"encoder": "net", "weights": "ab", "noise": 0.05}
REST = {"false_positive_rate": 0.05, "samples": 100, "identity": IDENTITY}


def scores(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(count)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2, 0.5])
def test_needed_samples_is_the_least_number_with_an_interval(rate):
    needed = needed_samples(rate)
    # The smallest score is below the quantile unless all are above it.
    assert stats.binom.pmf(0, needed, rate) <= 0.025 < stats.binom.pmf(0, needed - 1, rate)
    assert calibrate(scores(needed), rate, IDENTITY).samples == needed
    with pytest.raises(ValueError, match=rf"{needed - 1} real images are too few .* at least {needed}"):
        calibrate(scores(needed - 1), rate, IDENTITY)


@pytest.mark.parametrize(("count", "rate"), [(72, 0.05), (100, 0.1), (500, 0.05), (1000, 0.01)])
def test_the_interval_holds_the_quantile_as_often_as_it_says(count, rate):
    values = np.sort(scores(count))
    found = calibrate(values, rate, IDENTITY)
    first, last = (int(np.searchsorted(values, end)) for end in found.interval)
    below = stats.binom(count, rate)
    # P(order statistic `first` is above the quantile) and P(`last` is below it), exactly.
    assert below.cdf(first) <= 0.025
    assert 1 - below.cdf(last) <= 0.025
    # And it is the narrowest such pair.
    assert below.cdf(first + 1) > 0.025
    assert 1 - below.cdf(last - 1) > 0.025
    assert found.interval[0] <= found.threshold <= found.interval[1]
    assert found.threshold == np.quantile(values, rate)


def test_the_false_positive_rate_is_kept_by_97_of_100_calibrations():
    rate, trials = 0.05, 2000
    lows = np.array([calibrate(scores(200, seed), rate, IDENTITY).unsure[0] for seed in range(trials)])
    # Scores are uniform, so the false-positive rate of a threshold is the threshold itself.
    assert stats.binomtest(int((lows > rate).sum()), trials, 0.025, alternative="greater").pvalue > 1e-3
    assert lows.mean() > 0.015  # and it is not kept by calling nothing generated


def test_verdicts():
    found = Calibration(0.3, (0.2, 0.4), (0.2, 0.4), 0.05, 100, IDENTITY)
    given = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.41, float("nan")])
    assert found.verdicts(given) == ["generated", "unsure", "unsure", "unsure", "real", "unsure"]
    assert found.codes(given).tolist() == [0, 1, 1, 1, 2, 1]


def test_a_wider_band_of_unsure():
    values = scores(1000)
    narrow, wide = calibrate(values, 0.05, IDENTITY), calibrate(values, 0.05, IDENTITY, unsure_rate=0.2)
    assert narrow.unsure == narrow.interval == wide.interval
    assert wide.unsure == (narrow.unsure[0], np.quantile(values, 0.2))
    assert calibrate(values, 0.05, IDENTITY, unsure_rate=0.05).unsure == narrow.unsure


def test_saved_and_loaded(tmp_path):
    found = calibrate(torch.from_numpy(scores(100)), 0.1, IDENTITY)
    assert Calibration.load(found.save(tmp_path / "a" / "calibration.json")) == found
    checked = replace(found, images=ImageKinds(("GIF", "PNG"), (64, 4096)), sanity=(Check("uniform noise", 50, 3),))
    path = checked.save(tmp_path / "checked.json")
    assert Calibration.load(path) == checked
    fields = json.loads(path.read_text())
    assert fields["cautions"] == checked.cautions and len(checked.cautions) == 2
    assert fields["reading"] == READING
    for wrong in ({"images": 3}, {"images": {"formats": []}}, {"sanity": 3}, {"sanity": [3]}, {"sanity": [{}]}):
        path.write_text(json.dumps(fields | wrong))
        with pytest.raises(ValueError, match="cannot read a calibration from"):
            Calibration.load(path)
    for text in ("", "[]", '{"threshold": 1}', '{"threshold": 1, "interval": 3}', "\x00"):
        (tmp_path / "broken.json").write_text(text)
        with pytest.raises(ValueError, match="cannot read a calibration from"):
            Calibration.load(tmp_path / "broken.json")
    with pytest.raises(ValueError, match="cannot read a calibration from"):
        Calibration.load(tmp_path / "absent.json")


@pytest.mark.parametrize("band", ["interval", "unsure"])
@pytest.mark.parametrize(
    "ends", [[0.4, 0.2], [float("nan"), 0.2], [0.2, float("nan")], [0.2, float("inf")], ["nan", 1]]
)
def test_a_band_that_is_not_finite_or_reversed_is_refused(tmp_path, band, ends):
    """It would call every image, or none, generated."""
    fields = json.loads(calibrate(scores(100), 0.1, IDENTITY).save(tmp_path / "whole.json").read_text())
    (tmp_path / "broken.json").write_text(json.dumps(fields | {band: ends}))
    with pytest.raises(ValueError, match="cannot read a calibration from"):
        Calibration.load(tmp_path / "broken.json")
    with pytest.raises(ValueError, match=f"the ends of {band} must be finite and in order"):
        Calibration(0.3, **{"interval": (0.2, 0.4), "unsure": (0.2, 0.4), band: tuple(map(float, ends))}, **REST)


def test_a_threshold_that_is_not_finite_or_a_deep_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the threshold must be finite, got nan"):
        Calibration(float("nan"), (0.2, 0.4), (0.2, 0.4), **REST)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"cannot read a calibration from .*nested deeper"):
        Calibration.load(tmp_path / "deep.json")


def test_errors():
    for rate in (0, -0.1, 0.6, float("nan")):
        with pytest.raises(ValueError, match="false-positive rate lies above 0"):
            calibrate(scores(100), rate, IDENTITY)
    with pytest.raises(ValueError, match="one finite number per image"):
        calibrate([float("nan")] * 100, 0.1, IDENTITY)
    with pytest.raises(ValueError, match="one finite number per image"):
        calibrate(torch.rand(100, 2), 0.1, IDENTITY)
    with pytest.raises(ValueError, match="unsure_rate"):
        calibrate(scores(100), 0.1, IDENTITY, unsure_rate=0.05)
