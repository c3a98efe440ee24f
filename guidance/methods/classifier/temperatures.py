"""Calibration of a classifier: how well its probabilities match its accuracy, and the temperatures that correct them.

An off-the-shelf classifier was trained on clean images. On the denoised estimates of a sampler it is mostly
overconfident, and guidance follows its errors. The true classes are the ones that were asked for; see
`CalibrationTrace`.

Sources: expected calibration error and temperature scaling, arXiv 1706.04599; its adaptive form, arXiv 1904.01685;
Brier, Monthly Weather Review 78 (1950); classifier guidance with two temperatures, arXiv 2310.11311.

All functions take logits of any kind (logarithms of probabilities are logits too), (N, K) or, of several noise levels
together, (steps, N, K), with labels (N,). They compute in float64, and raise ValueError for shapes that do not fit,
labels out of range, and logits that are not finite.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from ...core.plots import panels, write_plot


#: Temperatures lie between 1 / LIMIT and LIMIT, so that there always is one.
LIMIT = 100.0


def reliability(logits: torch.Tensor, labels: torch.Tensor, bins: int = 15, adaptive: bool = False) -> np.ndarray:
    """Samples by the probability of the most likely class: (bins, 3) float64 of count, mean probability, accuracy.

    Args:
        bins: of equal width over (0, 1]; an empty one has zeros.
        adaptive: bins of equal counts instead, in the order of the probabilities; equal ones in the given order.
    """
    log_probabilities, true = _checked(logits, labels)
    confidence, right = np.exp(log_probabilities.max(1)), log_probabilities.argmax(1) == true
    if adaptive:
        order = np.argsort(confidence, kind="stable")
        number = np.empty(len(order), dtype=int)
        number[order] = np.arange(len(order)) * bins // len(order)
    else:
        number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(number, minlength=bins)
    sums = [np.bincount(number, weights, bins) for weights in (confidence, right)]
    return np.stack([count, *(total / np.maximum(count, 1) for total in sums)], 1)


def expected_calibration_error(
    logits: torch.Tensor, labels: torch.Tensor, bins: int = 15, adaptive: bool = False
) -> float:
    """Mean over the samples of |accuracy - probability| in their bin, in [0, 1]; bins as in `reliability`."""
    count, confidence, accuracy = reliability(logits, labels, bins, adaptive).T
    return float((count * np.abs(accuracy - confidence)).sum() / count.sum())


def brier_score(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean over the samples of the squared distance of the probabilities to the true class, summed over the classes;
    in [0, 2]."""
    log_probabilities, true = _checked(logits, labels)
    certain = np.eye(log_probabilities.shape[1])[true]
    return float(np.square(np.exp(log_probabilities) - certain).sum(1).mean())


def negative_log_likelihood(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean of -log p of the true class, in nats; log K for a classifier that knows nothing."""
    log_probabilities, true = _checked(logits, labels)
    return float(-log_probabilities[np.arange(len(true)), true].mean())


def calibration(logits: torch.Tensor, labels: torch.Tensor, bins: int = 15) -> dict[str, float]:
    """All metrics: `ece`, `ece_adaptive`, `brier`, `nll`, `accuracy`, `confidence` (mean probability of the guess)."""
    count, confidence, accuracy = reliability(logits, labels, bins).T
    return {
        "ece": expected_calibration_error(logits, labels, bins),
        "ece_adaptive": expected_calibration_error(logits, labels, bins, adaptive=True),
        "brier": brier_score(logits, labels),
        "nll": negative_log_likelihood(logits, labels),
        "accuracy": float(count @ accuracy / count.sum()),
        "confidence": float(count @ confidence / count.sum()),
    }


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor, prior: float = 1.0) -> float:
    """The tau that minimises the negative log-likelihood of `softmax(tau * logits)`: temperature scaling, tau = 1 / T.

    The log-likelihood is concave in tau, so the root of its derivative, the mean over the samples of (expected logit -
    logit of the true class), is the only optimum. It is below 1 for an overconfident classifier.

    Args:
        prior: weight, in samples, of a prior of unknown classes. With 0, plain maximum likelihood, tau is LIMIT for a
            classifier that is right in all of a few samples.

    Returns:
        tau in [1 / LIMIT, LIMIT]; the lower end where guessing is not better than chance.

    Raises:
        ValueError: a negative prior.
    """
    if not prior >= 0:
        raise ValueError(f"prior is a number of samples, at least 0, got {prior}")
    from scipy.optimize import brentq  # lazy: slow to import

    # Log probabilities in place of the logits: tau times either gives the same probabilities.
    values, true = _checked(logits, labels)
    count = len(true)
    wanted = (values[np.arange(count), true].sum() + prior * values.mean()) / (count + prior)

    def slope(log_tau: float) -> float:
        weights = np.exp(np.exp(log_tau) * (values - values.max(1, keepdims=True)))
        return float(((weights * values).sum(1) / weights.sum(1)).mean() - wanted)

    low, high = -np.log(LIMIT), np.log(LIMIT)
    if slope(low) >= 0:
        return 1 / LIMIT
    return LIMIT if slope(high) <= 0 else float(np.exp(brentq(slope, low, high)))


def fit_temperatures(logits: torch.Tensor, labels: torch.Tensor, ratio: float = 0.5) -> dict[str, float]:
    """The two temperatures of `log p = tau_joint * f_y - logsumexp(tau_marginal * f)`, ready for classifier guidance.

    `tau_joint` is `fit_temperature`. `tau_marginal` is `ratio` times it, and is not fitted: with two temperatures the
    formula is not a probability of the class any more (it does not sum to one, and labels would send tau_joint to
    infinity). Its gradient is that of the calibrated `softmax(tau_marginal * f)` plus (tau_joint - tau_marginal) times
    the gradient of f_y: a push towards the class that remains when the classifier is already sure. Images decide how
    much of it is good (a Frechet distance), not labels.

    Args:
        logits, labels: of trajectories that are not used otherwise, at all noise levels at which guidance is active.
        ratio: tau_marginal / tau_joint; the paper's are 0.5 for DDPM and 0 (no marginal at all) for EDM; 1 is the
            plain posterior.

    Raises:
        ValueError: a ratio outside [0, 1].
    """
    if not 0 <= ratio <= 1:
        raise ValueError(f"ratio is tau_marginal / tau_joint, between 0 and 1, got {ratio}")
    tau = fit_temperature(logits, labels)
    return {"tau_joint": tau, "tau_marginal": ratio * tau}


def reliability_plot(
    path: str | os.PathLike, diagrams: Mapping[str, Mapping[str, tuple[torch.Tensor, torch.Tensor]]], bins: int = 15
) -> Path:
    """Draw reliability diagrams to a PNG, PDF or SVG file; a diagram is title -> {name of a curve: (logits, labels)}.

    A point is a bin with samples in it, its area their share; below the diagonal the classifier is overconfident.
    """
    figure, places = panels(len(diagrams), 4.2, 4.2)
    for axes, (title, curves) in zip(places, diagrams.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", linewidth=1)
        for name, (logits, labels) in curves.items():
            table = reliability(logits, labels, bins)
            count, confidence, accuracy = table[table[:, 0] > 0].T
            error = expected_calibration_error(logits, labels, bins)
            (line,) = axes.plot(confidence, accuracy, linewidth=1, label=f"{name}: ECE {error:.4f}")
            axes.scatter(confidence, accuracy, 8 + 250 * count / count.sum(), color=line.get_color(), alpha=0.7)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), title=title)
        axes.set(xlabel="probability of the guess", ylabel="share of right guesses")
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    return write_plot(path, figure)


def _checked(logits: torch.Tensor, labels: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Log probabilities (M, K) float64, and labels (M,), of all noise levels."""
    if logits.ndim < 2 or labels.shape != logits.shape[-2:-1] or not logits.numel():
        raise ValueError(f"expected logits (N, K) and labels (N,), got {tuple(logits.shape)} and {tuple(labels.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= logits.shape[-1]:
        raise ValueError(f"labels are class numbers from 0 to {logits.shape[-1] - 1}")
    log_probabilities = torch.log_softmax(logits.detach().cpu().double(), -1)
    if not bool(log_probabilities.isfinite().all()):
        raise ValueError("some logits are not finite")
    labels = labels.detach().cpu().expand(logits.shape[:-1])
    return log_probabilities.flatten(0, -2).numpy(), labels.flatten().numpy()
