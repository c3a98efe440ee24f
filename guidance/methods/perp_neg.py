"""Perp-Neg: a negative prompt acts only perpendicular to the positive one (arXiv 2304.04968)."""

import torch

from ..core.combine import check_pair, per_sample, widened


def perp_neg(
    positive: torch.Tensor, negative: torch.Tensor, uncond: torch.Tensor, weight: float, negative_weight: float = 1.0
) -> torch.Tensor:
    """`uncond + weight * (pos - negative_weight * perp)`: pos and neg are the directions from `uncond`, and perp is the
    part of neg orthogonal to pos, per sample, over all dimensions but the first.

    So what the two prompts share is kept. With `negative_weight` 0 it is classifier-free guidance.

    Args:
        positive, negative, uncond: (B, ...) predictions for the prompt, the negative prompt and the empty prompt, in
            any space that is linear in x0.

    Returns:
        (B, ...) in the dtype of `positive`, computed in float32; finite also where positive equals uncond.

    Raises:
        ValueError: shapes that differ.
    """
    check_pair(positive, negative)
    check_pair(positive, uncond)
    base = widened(uncond)
    pos, neg = widened(positive) - base, widened(negative) - base
    square = pos.flatten(1).square().sum(1).clamp_min(torch.finfo(pos.dtype).tiny)
    share = (pos * neg).flatten(1).sum(1) / square
    perp = neg - per_sample(share, pos) * pos
    return (base + weight * (pos - negative_weight * perp)).to(positive.dtype)
