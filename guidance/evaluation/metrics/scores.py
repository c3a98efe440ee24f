"""Scores of networks that know text or classes: CLIP score, Inception score."""

from itertools import pairwise

import numpy as np
import torch
from scipy import stats

from .estimate import LEVEL, Estimate
from .features import as_features


def clip_score(images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
    """(B,) float32 in [0, 100]: 100 times the cosine of image and text embeddings (B, D), and 0 where it is negative.

    arXiv 2104.08718, with today's usual factor 100 in place of 2.5.

    Raises:
        ValueError: the shapes differ.
    """
    if images.shape != texts.shape:
        raise ValueError(f"expected embeddings of one shape (B, D), got {images.shape} and {texts.shape}")
    return 100 * torch.nn.functional.cosine_similarity(images.float(), texts.float(), dim=1).clamp_min(0)


def inception_score(logits: torch.Tensor | np.ndarray, splits: int = 10) -> np.ndarray:
    """(splits,) `exp(E KL(p(y|x) || p(y)))` of consecutive parts of logits (N, classes); between 1 and classes.

    arXiv 1606.03498, in float64. The order of the samples decides the parts.

    Raises:
        ValueError: fewer samples than splits, or logits that are not finite.
    """
    logits = torch.from_numpy(as_features(logits))
    if not 1 <= splits <= len(logits):
        raise ValueError(f"{len(logits)} samples cannot be split into {splits} parts")
    log_p = logits.log_softmax(1)
    bounds = [i * len(logits) // splits for i in range(splits + 1)]
    scores = []
    for start, stop in pairwise(bounds):
        part = log_p[start:stop]
        marginal = part.logsumexp(0) - np.log(len(part))
        scores.append((part.exp() * (part - marginal)).sum(1).mean().exp().item())
    return np.array(scores)


def inception_score_estimate(
    logits: torch.Tensor | np.ndarray, splits: int = 10, name: str = "inception_score"
) -> Estimate:
    """Mean of `inception_score` over the splits, with Student's interval.

    The score of few samples is too low: it comes with a warning below 50 samples per class in a split.
    """
    scores = inception_score(logits, splits)
    value, (count, classes) = float(scores.mean()), logits.shape
    interval = None
    if splits > 1:
        half = float(stats.t.ppf((1 + LEVEL) / 2, splits - 1) * scores.std(ddof=1) / np.sqrt(splits))
        interval = (value - half, value + half)
    few = count < 50 * classes * splits
    warning = f"too low for lack of samples: {count} in {splits} splits of {classes} classes (rule: 50 a class a split)"
    return Estimate(name, value, interval, count, warning if few else None)
