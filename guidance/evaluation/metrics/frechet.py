"""Frechet distance between two Gaussians (FID on Inception features; arXiv 1706.08500, equation 6)."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from scipy.linalg.lapack import dpstrf

from .estimate import Estimate, jackknife
from .moments import Moments


PARTS = 10  # how many parts the samples are split into for the interval


class Gaussian(Protocol):
    """What the distance needs: `Moments`, and statistics read from a file."""

    @property
    def mean(self) -> np.ndarray: ...

    @property
    def covariance(self) -> np.ndarray: ...


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """`||mean_a - mean_b||^2 + tr(C_a) + tr(C_b) - 2 tr((C_a C_b)^(1/2))`, at least 0, in squared feature units.

    The trace of the root is the nuclear norm of `F_a^T F_b` for any factors with `C = F F^T`. That is symmetric in a
    and b, needs no matrix square root, has no imaginary part, and keeps the digits that eigenvalues of `C_a C_b` lose
    (an eigenvalue known to 1e-16 has a root known to 1e-8 only). Singular covariances, as from fewer samples than
    dimensions, need no special case.

    Raises:
        ValueError: the dimensions differ, or a mean or covariance is not finite.
    """
    mean_a, mean_b = np.atleast_1d(a.mean), np.atleast_1d(b.mean)
    covariance_a, covariance_b = np.atleast_2d(a.covariance), np.atleast_2d(b.covariance)
    if mean_a.shape != mean_b.shape or covariance_a.shape != covariance_b.shape:
        raise ValueError(
            f"the two sides have {len(mean_a)} and {len(mean_b)} dimensions; compare features of one extractor"
        )
    difference = mean_a - mean_b
    root = np.linalg.svd(factor(covariance_a).T @ factor(covariance_b), compute_uv=False).sum()
    distance = difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2 * root
    return max(float(distance), 0.0)


def factor(covariance: np.ndarray) -> np.ndarray:
    """(D, rank) factor F with `F F^T = covariance`, which must be symmetric; what is zero to rounding is left out.

    A Cholesky factorization with pivoting (Higham, Accuracy and Stability of Numerical Algorithms, 10.3), which ends
    at the rank, so that fewer samples than dimensions cost less than more of them.

    Raises:
        ValueError: the covariance is not finite, or has a negative eigenvalue beyond rounding.
    """
    if not np.isfinite(covariance).all():
        raise ValueError("the covariance is not finite")
    dim = len(covariance)
    floor = dim * np.finfo(np.float64).eps * np.trace(covariance)
    triangle, order, rank, _ = dpstrf(covariance, tol=floor, lower=1)
    result = np.empty((dim, rank))
    result[order - 1] = np.tril(triangle)[:, :rank]
    # What it leaves out is below the floor unless there are negative eigenvalues, and any vector would show those.
    probe = np.random.default_rng(0).standard_normal(dim)
    left_out = covariance @ probe - result @ (result.T @ probe)
    if np.linalg.norm(left_out) <= np.sqrt(dim) * floor * np.linalg.norm(probe):
        return result
    # Stored statistics may have been computed in float32, so allow its rounding.
    values, vectors = np.linalg.eigh(covariance)
    if values[0] < -1e-4 * np.abs(values).max():
        raise ValueError(f"not a covariance: it has the negative eigenvalue {values[0]:.3g}")
    kept = values > floor
    return vectors[:, kept] * np.sqrt(values[kept])


def frechet_estimate(parts: Sequence[Moments], reference: Gaussian, name: str = "frechet") -> Estimate:
    """The Frechet distance of all samples to `reference`, with an interval from leaving out each part in turn.

    The interval covers the randomness of the samples; the reference is taken as exact. The same values give the bias,
    which falls as 1 / N (arXiv 1911.07023): the value comes with a warning when the bias exceeds a tenth of it, or when
    there are no more samples than dimensions.

    Args:
        parts: moments of disjoint parts of the samples, of about the same size, at best `PARTS`; one gives no interval.
        reference: the other side.
    """
    whole = merged(parts)
    value = frechet_distance(whole, reference)
    interval, bias = None, 0.0
    if len(parts) > 1:
        (low, high), bias = jackknife(value, distances_without(parts, reference))
        interval = (max(low, 0.0), high)
    warning = None
    if whole.count <= whole.dim:
        warning = f"{whole.count} samples in {whole.dim} dimensions: the covariance is singular, the bias dominates"
    elif bias > 0.1 * value:
        warning = f"about {bias:.3g} of this is the bias of {whole.count} samples (jackknife; rule: above a tenth)"
    return Estimate(name, value, interval, whole.count, warning)


def distances_without(parts: Sequence[Moments], reference: Gaussian) -> list[float]:
    """The Frechet distances to `reference` without each part in turn, for a jackknife."""
    return [frechet_distance(merged([*parts[:i], *parts[i + 1 :]]), reference) for i in range(len(parts))]


def merged(parts: Sequence[Moments]) -> Moments:
    """The moments of all parts together, merged in order."""
    whole = Moments()
    for part in parts:
        whole.merge(part)
    return whole
