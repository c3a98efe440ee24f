"""Feature vectors as all metrics take them: float64, on the CPU, checked."""

import numpy as np
import torch


def as_features(features: torch.Tensor | np.ndarray) -> np.ndarray:
    """`features` as a float64 array (B, D). Raises ValueError unless two-dimensional and finite."""
    if isinstance(features, torch.Tensor):
        features = features.detach().cpu().to(torch.float64).numpy()
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2:
        raise ValueError(f"features must have the shape (samples, dimensions), got {features.shape}")
    # Any NaN or infinity reaches the sum, which saves an array of flags.
    if not np.isfinite(features.sum()):
        bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if len(bad):
            raise ValueError(
                f"{len(bad)} of {len(features)} feature vectors are not finite, the first at row {bad[0]}; look at the "
                "images they come from, and run the extractor in float32"
            )
    return features


def as_sides(
    x: torch.Tensor | np.ndarray, y: torch.Tensor | np.ndarray, least: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Both sides of a comparison, (N, D) and (M, D). Raises ValueError if D differs, or N or M is below `least`."""
    x, y = as_features(x), as_features(y)
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"the two sides have {x.shape[1]} and {y.shape[1]} dimensions; compare one extractor's")
    if min(len(x), len(y)) < least:
        raise ValueError(f"at least {least} samples are needed on each side, got {len(x)} and {len(y)}")
    return x, y
