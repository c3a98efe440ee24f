"""Figures of calibration against other libraries and closed forms, and the temperature against another optimiser."""

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.classification import MulticlassCalibrationError

from diffusion_guidance.methods.classifier.temperatures import (
    LIMIT,
    brier_score,
    calibration,
    expected_calibration_error,
    fit_temperature,
    fit_temperatures,
    negative_log_likelihood,
    reliability,
    reliability_plot,
)


def sampled(tau: float = 1.0, count: int = 4000, classes: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits whose true temperature is `tau`: labels are drawn from `softmax(tau * logits)`."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(count, classes, generator=generator)
    labels = torch.multinomial(torch.softmax(tau * logits, 1), 1, generator=generator).flatten()
    return logits, labels


@pytest.mark.parametrize("tau", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("bins", [5, 15])
def test_figures_equal_those_of_other_libraries(tau, bins):
    logits, labels = sampled(tau)
    probabilities = torch.softmax(logits.double(), 1)
    theirs = MulticlassCalibrationError(5, n_bins=bins, norm="l1")(probabilities, labels)
    assert abs(expected_calibration_error(logits, labels, bins) - float(theirs)) < 1e-6
    known = range(5)
    brier = brier_score_loss(labels, probabilities, labels=known, scale_by_half=False)
    assert abs(brier_score(logits, labels) - brier) < 1e-12
    assert abs(negative_log_likelihood(logits, labels) - log_loss(labels, probabilities, labels=known)) < 1e-12


def test_adaptive_bins_against_a_sorted_list():
    logits, labels = sampled(0.5, count=100)
    confidence, guess = torch.softmax(logits.double(), 1).max(1)
    order = sorted(range(100), key=lambda i: confidence[i])
    error = 0.0
    for part in (order[i : i + 20] for i in range(0, 100, 20)):
        accuracy = sum(bool(guess[i] == labels[i]) for i in part) / 20
        error += abs(accuracy - sum(float(confidence[i]) for i in part) / 20) * 20 / 100
    assert abs(expected_calibration_error(logits, labels, 5, adaptive=True) - error) < 1e-12
    assert reliability(logits, labels, 7, adaptive=True)[:, 0].tolist() == [15, 14, 14, 15, 14, 14, 14]


def test_a_classifier_that_knows_nothing():
    labels = torch.arange(8) % 4
    figures = calibration(torch.zeros(8, 4), labels)
    del figures["ece_adaptive"]  # ties have no order to be binned in
    assert figures == pytest.approx({"ece": 0, "brier": 0.75, "nll": np.log(4), "accuracy": 0.25, "confidence": 0.25})


def test_a_classifier_that_is_certain_and_wrong_one_time_in_four():
    logits, labels = 1000 * torch.eye(4), torch.tensor([0, 1, 2, 0])
    figures = calibration(logits, labels)
    assert figures["ece"] == pytest.approx(0.25) and figures["brier"] == pytest.approx(2 / 4)
    assert figures["nll"] == pytest.approx(1000 / 4) and figures["accuracy"] == 0.75


def test_probabilities_that_are_right_have_no_error_but_that_of_chance():
    logits, labels = sampled(1.0, count=200_000)
    assert expected_calibration_error(logits, labels) < 0.005
    assert expected_calibration_error(2 * logits, labels) > 0.05


def test_noise_levels_are_pooled():
    (a, labels), (b, _) = sampled(1.0, 50), sampled(1.0, 50, seed=1)
    together = calibration(torch.stack([a, b]), labels)
    assert together == calibration(torch.cat([a, b]), labels.repeat(2))


@pytest.mark.parametrize("tau", [0.2, 1.0, 3.0])
def test_the_fitted_temperature_is_the_true_one_and_that_of_another_optimiser(tau):
    logits, labels = sampled(tau, count=50_000)
    found = fit_temperature(logits, labels, prior=0)
    assert found == pytest.approx(tau, rel=0.03)
    guess = torch.ones((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([guess], max_iter=100, tolerance_grad=1e-12, tolerance_change=0)

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(guess * logits.double(), labels)
        loss.backward()
        return loss

    optimiser.step(closure)
    assert found == pytest.approx(guess.item(), rel=1e-5)


def test_one_temperature_does_not_change_the_guess_and_improves_what_it_was_fitted_to():
    logits, labels = sampled(0.3)
    before, after = calibration(logits, labels), calibration(fit_temperature(logits, labels) * logits, labels)
    assert after["accuracy"] == before["accuracy"]
    assert all(after[name] < before[name] for name in ("ece", "ece_adaptive", "brier", "nll"))


def test_it_does_not_depend_on_what_is_added_to_all_logits_of_a_sample():
    logits, labels = sampled(0.7, count=500)
    moved = logits.double() + 1000 * torch.randn(500, 1, dtype=torch.float64)
    assert fit_temperature(moved, labels) == pytest.approx(fit_temperature(logits.double(), labels), rel=1e-9)


def test_the_prior_keeps_a_classifier_that_is_never_wrong_from_being_certain():
    # Two classes, logits 1 apart, always right: the likelihood has no maximum. With a prior p, n samples of which the
    # share p / (n + p) / 2 counts as wrong have it where sigmoid(tau) is the share that is right.
    logits, labels = torch.eye(2).repeat(10, 1), torch.arange(2).repeat(10)
    assert fit_temperature(logits, labels, prior=0) == LIMIT
    wrong = 1 / 21 / 2
    assert fit_temperature(logits, labels, prior=1) == pytest.approx(np.log((1 - wrong) / wrong), rel=1e-9)


def test_a_classifier_worse_than_chance_has_the_lowest_temperature():
    logits, labels = sampled(1.0)
    assert fit_temperature(-logits, labels) == 1 / LIMIT


def test_two_temperatures():
    logits, labels = sampled(0.5)
    tau = fit_temperature(logits, labels)
    assert fit_temperatures(logits, labels, ratio=0.25) == {"tau_joint": tau, "tau_marginal": 0.25 * tau}
    with pytest.raises(ValueError, match="between 0 and 1"):
        fit_temperatures(logits, labels, ratio=2.0)


def test_half_precision_logits_are_widened():
    logits, labels = sampled(1.0)
    assert calibration(logits.bfloat16(), labels) == calibration(logits.bfloat16().double(), labels)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.long), r"got \(3, 2\) and \(4,\)"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), r"expected logits \(N, K\)"),
        (torch.zeros(3, 2), torch.full((3,), 2), "from 0 to 1"),
        (torch.tensor([[0.0, float("nan")]]), torch.zeros(1, dtype=torch.long), "not finite"),
    ],
)
def test_what_cannot_be_measured_is_refused(logits, labels, message):
    with pytest.raises(ValueError, match=message):
        calibration(logits, labels)


def test_the_diagram_has_a_panel_each(tmp_path):
    curves = {"before": sampled(0.3), "after": sampled(1.0)}
    path = reliability_plot(tmp_path / "one.png", {"all": curves})
    wider = reliability_plot(tmp_path / "two.png", {"first": curves, "last": curves})
    with Image.open(path) as one, Image.open(wider) as two:
        assert two.width == 2 * one.width and one.getextrema() != ((255, 255),) * 4


def test_reliability_counts_every_sample_in_its_bin():
    logits = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.35, 0.65], [1.0, 0.0]]).log().clamp_min(-1e4)
    table = reliability(logits, torch.tensor([0, 1, 1, 0]), bins=2)
    np.testing.assert_allclose(table, [[0, 0, 0], [4, (0.9 + 0.6 + 0.65 + 1) / 4, 0.75]], atol=1e-6)
