"""What all combiners share: per-sample arithmetic in float32, and the classifier-free formula."""

import torch


def classifier_free_guidance(cond: torch.Tensor, uncond: torch.Tensor, weight: float | torch.Tensor) -> torch.Tensor:
    """`uncond + weight * (cond - uncond)`: weight 1 is the conditional prediction, 0 the unconditional one.

    Any parameterization that is linear in x0 (eps, v, x0, velocity) gives the same guided sample.

    Args:
        cond, uncond: predictions (B, ...) of one shape.
        weight: a number, in which case the dtype of the predictions is kept and the result equals, to the last bit,
            what diffusers' pipelines compute; or a tensor, computed in float32 (in float64 for float64 predictions):
            (B,), one per sample, or of any shape that broadcasts to the predictions (a weight for each frame or place).

    Returns:
        (B, ...) in the dtype of `cond`.

    Raises:
        ValueError: shapes that differ, or a weight that does not broadcast to them.
    """
    check_pair(cond, uncond)
    if not isinstance(weight, torch.Tensor):
        return uncond + weight * (cond - uncond)
    base = widened(uncond)
    return (base + _fitting(weight.to(base.dtype), cond) * (widened(cond) - base)).to(cond.dtype)


def _fitting(weight: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    fits = per_sample(weight, like) if weight.ndim <= 1 else weight
    sizes = zip(reversed(fits.shape), reversed(like.shape), strict=False)
    if fits.ndim > like.ndim or any(size not in (1, wanted) for size, wanted in sizes):
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}, which does not broadcast to predictions of shape "
            f"{tuple(like.shape)}; give (B,), or one that does"
        )
    return fits


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` in float32, or as it is in float64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def sample_norm(tensor: torch.Tensor) -> torch.Tensor:
    """(B,) L2 norm of each sample of (B, ...), in float32 (float64 for float64)."""
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return torch.linalg.vector_norm(tensor.flatten(1), dim=1, dtype=dtype)


def per_sample(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(B,) reshaped to (B, 1, ...) so that it multiplies `like` (B, ...) sample by sample."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def effective_weight(prediction: torch.Tensor, cond: torch.Tensor, uncond: torch.Tensor) -> torch.Tensor:
    """`<prediction - uncond, cond - uncond> / ||cond - uncond||^2`: the weight of classifier-free guidance that comes
    nearest to `prediction`, so that methods can be compared at equal weight (arXiv 2602.22570).

    Args:
        prediction, cond, uncond: (B, ...) of one shape, in one space (eps, v, x0 or velocity).

    Returns:
        (B,) float32; 1 where cond equals uncond.
    """
    base = uncond.float()
    direction = (cond.float() - base).flatten(1)
    dot = ((prediction.float() - base).flatten(1) * direction).sum(1)
    square = direction.square().sum(1)
    return torch.where(square > 0, dot / square.clamp_min(torch.finfo(torch.float32).tiny), 1.0)


def check_pair(cond: torch.Tensor, uncond: torch.Tensor) -> None:
    """Raise ValueError unless the two predictions are (B, ...) tensors of one shape."""
    if cond.shape != uncond.shape or cond.ndim < 2:
        raise ValueError(
            f"cond and uncond must be predictions (B, ...) of one shape, got {tuple(cond.shape)} and "
            f"{tuple(uncond.shape)}"
        )
