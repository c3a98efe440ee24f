"""The log-probability of a class with two temperatures, and its gradient with respect to the image.

Source: EluCD (arXiv 2310.11311), section 4.3.
"""

from collections.abc import Callable

import torch

from ...core.combine import widened


def class_log_prob(
    logits: torch.Tensor, labels: torch.Tensor, tau_joint: float = 1.0, tau_marginal: float = 0.5
) -> torch.Tensor:
    """`tau_joint * f_y - logsumexp(tau_marginal * f)` (section 4.3), finite for any finite logits.

    With both temperatures 1 it is the log-probability of the class; with tau_marginal 0, the joint term alone.

    Args:
        logits: (B, K), of any floating dtype.
        labels: (B,) class ids.

    Returns:
        (B,) in float32 (float64 for float64). Normalised only where the two temperatures are equal.
    """
    logits = widened(logits)
    largest = logits.detach().amax(1)
    below = logits - largest[:, None]  # without it the softmax in the gradient has the rounding of large logits
    joint = below.gather(1, labels.reshape(-1, 1)).squeeze(1)
    return tau_joint * joint - torch.logsumexp(tau_marginal * below, 1) + (tau_joint - tau_marginal) * largest


def class_log_prob_gradient(
    logits: torch.Tensor, labels: torch.Tensor, tau_joint: float = 1.0, tau_marginal: float = 0.5
) -> torch.Tensor:
    """Gradient of `class_log_prob` with respect to the logits: `tau_joint * onehot(y) - tau_marginal * softmax(...)`.

    Args:
        logits: (B, K), of any floating dtype; the softmax is of `tau_marginal * logits`.
        labels: (B, 1) class ids.

    Returns:
        (B, K) in float32 (float64 for float64).
    """
    # Without the largest one first, the product would round large logits.
    softmax = torch.softmax(tau_marginal * (widened(logits) - logits.amax(1, keepdim=True)), 1)
    return (-tau_marginal * softmax).scatter(1, labels, tau_joint, reduce="add")


def class_gradient(
    classifier: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    labels: torch.Tensor,
    tau_joint: float = 1.0,
    tau_marginal: float = 0.5,
    chunk: int | None = None,
) -> torch.Tensor:
    """Gradient of `class_log_prob(classifier(x), labels)` with respect to x, sample by sample.

    Works within `torch.no_grad()` and `torch.inference_mode()`; x is detached first.

    Args:
        classifier: from (B, ...) to logits (B, K); the rows must not depend on each other (a network in eval mode).
        x: (B, ...).
        labels: (B,) class ids.
        chunk: samples at once, to bound the memory; None for all.

    Returns:
        (B, ...) in the dtype of x.
    """
    labels = labels.reshape(-1, 1)
    with torch.inference_mode(False):
        if chunk is None or chunk >= len(x):
            return _gradient(classifier, x, labels, tau_joint, tau_marginal)
        parts = zip(x.split(chunk), labels.split(chunk), strict=True)
        return torch.cat([_gradient(classifier, *part, tau_joint, tau_marginal) for part in parts])


def _gradient(
    classifier: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    labels: torch.Tensor,
    tau_joint: float,
    tau_marginal: float,
) -> torch.Tensor:
    x = x.detach().clone().requires_grad_(True)  # a tensor made in inference mode can have no gradient
    with torch.enable_grad():
        logits = classifier(x)
    # In closed form: through autograd it would be as expensive as a small classifier.
    wanted = class_log_prob_gradient(logits.detach(), labels, tau_joint, tau_marginal).to(logits.dtype)
    return torch.autograd.grad(logits, x, wanted)[0]
