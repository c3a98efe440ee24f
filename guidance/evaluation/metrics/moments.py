"""Count, mean and covariance of features, in one pass and in float64."""

import os
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from scipy.linalg.blas import dsyrk

from ...core.files import write_atomic
from .features import as_features


class Moments:
    """Mean and covariance of a stream of feature vectors; memory is one (D, D) matrix, however many there are.

    The scatter matrix is kept about the running mean (Chan, Golub and LeVeque, 1983), so features with a mean far from
    zero lose no digits, and merging the moments of parts gives those of the whole to rounding. The same batches in
    the same order give the same bits.

    Attributes:
        count: number of vectors seen.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = np.zeros(0)
        self._scatter = np.zeros((0, 0))  # upper triangle, the rest 0; in Fortran order BLAS updates it in place

    @classmethod
    def of(cls, features: torch.Tensor | np.ndarray) -> "Moments":
        """The moments of one batch (B, D)."""
        return cls().update(features)

    @property
    def dim(self) -> int:
        """D, the length of a vector; 0 before the first."""
        return len(self._mean)

    @property
    def mean(self) -> np.ndarray:
        """(D,) float64. Raises ValueError before the first vector."""
        if not self.count:
            raise ValueError("no features were given: the mean of nothing is undefined")
        return self._mean

    @property
    def covariance(self) -> np.ndarray:
        """(D, D) float64, unbiased as numpy.cov (divided by count - 1). Raises ValueError below two vectors."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least two samples, got {self.count}")
        return (self._scatter + np.triu(self._scatter, 1).T) / (self.count - 1)

    def update(self, features: torch.Tensor | np.ndarray) -> "Moments":
        """Add a batch (B, D) of any float type, on any device; returns self.

        Raises:
            ValueError: not two-dimensional, another D than before, or a feature that is not finite; nothing is added.
        """
        batch = as_features(features)
        if len(batch) == 0:
            return self
        mean = batch.mean(axis=0)
        return self._add(len(batch), mean, batch - mean)

    def merge(self, other: "Moments") -> "Moments":
        """Add everything that `other` has seen; returns self. Raises ValueError if the dimensions differ."""
        if other.count:
            self._add(other.count, other._mean, np.empty((0, other.dim)))
            self._scatter += other._scatter
        return self

    def _add(self, count: int, mean: np.ndarray, centred: np.ndarray) -> "Moments":
        if not self.count:
            self._mean = np.zeros_like(mean)
            self._scatter = np.zeros((len(mean), len(mean)), order="F")
        elif len(mean) != self.dim:
            raise ValueError(f"features of {len(mean)} dimensions cannot join features of {self.dim} dimensions")
        total = self.count + count
        shift = mean - self._mean
        # The shift of the mean is one more row of the same rank-k update.
        rows = np.vstack([centred, shift * np.sqrt(self.count * count / total)])
        self._scatter = dsyrk(1.0, rows.T, beta=1.0, c=self._scatter, overwrite_c=True)
        self._mean = self._mean + shift * (count / total)
        self.count = total
        return self

    def save(self, path: str | os.PathLike, metadata: dict[str, str] | None = None) -> Path:
        """Write count, mean and scatter as safetensors, atomically; `load` reads them back to the bit."""
        tensors = {"mean": self.mean, "scatter": np.ascontiguousarray(self._scatter)}
        facts = (metadata or {}) | {"count": str(self.count)}
        return write_atomic(path, lambda temporary: save_file(tensors, temporary, metadata=facts))

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Moments":
        """The moments that `save` wrote. Raises ValueError if `path` is not such a file, or a value is not finite."""
        moments = cls()
        try:
            with safe_open(path, framework="numpy") as file:
                moments.count = int(file.metadata()["count"])
                moments._mean = file.get_tensor("mean")
                moments._scatter = np.asfortranarray(file.get_tensor("scatter"))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"cannot read moments from {path}: {error}") from None
        mean, scatter = moments._mean, moments._scatter
        if mean.ndim != 1 or scatter.shape != 2 * mean.shape or moments.count < 1:
            raise ValueError(
                f"{path}: a mean of {mean.shape} and a scatter of {scatter.shape} over {moments.count} samples do not "
                "go together"
            )
        if not (mean.dtype == scatter.dtype == np.float64 and np.isfinite(mean).all() and np.isfinite(scatter).all()):
            raise ValueError(f"{path}: mean and scatter must be finite float64 numbers; make the statistics again")
        return moments

    @staticmethod
    def metadata(path: str | os.PathLike) -> dict[str, str]:
        """What `save` was given in addition. Raises ValueError if `path` is not a safetensors file."""
        try:
            with safe_open(path, framework="numpy") as file:
                return file.metadata() or {}
        except (OSError, SafetensorError) as error:
            raise ValueError(f"cannot read moments from {path}: {error}") from None
