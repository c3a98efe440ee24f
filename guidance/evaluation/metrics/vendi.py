"""Diversity without a reference: the Vendi score (arXiv 2210.02410)."""

import numpy as np
import torch

from .estimate import Estimate
from .features import as_features


FEW = 10  # samples for each effective one, below which more samples would still add to the score


def vendi_score(features: torch.Tensor | np.ndarray) -> float:
    """`exp(-sum_i l_i ln l_i)` with l the eigenvalues of K / n, and K the cosines between all pairs of samples.

    It is the effective number of different samples: 1 where all point one way, n where all are orthogonal. The
    eigenvalues are computed from the smaller of the (N, N) and the (D, D) matrix, in float64.

    Args:
        features: (N, D).

    Raises:
        ValueError: no sample, features that are not finite, or a feature vector of length 0, which has no direction.
    """
    features = as_features(features)
    lengths = np.linalg.norm(features, axis=1)
    if len(features) == 0 or not lengths.all():
        raise ValueError(
            "the Vendi score needs samples with a direction, got "
            f"{(lengths == 0).sum()} zero vectors of {len(features)}"
        )
    unit = features / lengths[:, None]
    gram = unit @ unit.T if len(unit) <= unit.shape[1] else unit.T @ unit
    shares = np.linalg.eigvalsh(gram / len(unit))
    shares = shares[shares > 0]  # rounding leaves some below, whose share of the entropy is 0
    return float(np.exp(-(shares * np.log(shares)).sum()))


def vendi_estimate(features: torch.Tensor | np.ndarray) -> Estimate:
    """`vendi_score` without an interval; it grows with the number of samples, so it comes with a warning where the
    samples are fewer than 10 for each effective one."""
    value, count = vendi_score(features), len(features)
    few = count < FEW * value
    warning = f"{count} samples of which {value:.1f} are effective: compare only at equal counts (rule: 10 for each)"
    return Estimate("vendi", value, None, count, warning if few else None)
