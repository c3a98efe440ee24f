"""The formula of NAG: extrapolation of attention's result, with its norm bounded."""

import torch

from ...core.combine import check_pair, widened


def normalized_attention(
    positive: torch.Tensor, negative: torch.Tensor, scale: float = 5.0, tau: float = 2.5, alpha: float = 0.25
) -> torch.Tensor:
    """`alpha * bounded + (1 - alpha) * positive`, where `bounded` is `scale * positive - (scale - 1) * negative`,
    shortened per token to at most `tau` times the L1 norm of `positive` (equations 7 to 10 of the paper).

    Args:
        positive, negative: (B, tokens, channels), what attention to the prompt and to the negative prompt found, before
            the output projection.
        scale: 1 is `positive`. As in the authors' code: their paper's scale plus 1.
        tau: above 0.
        alpha: 0 is `positive`.

    Returns:
        (B, tokens, channels) in the dtype of `positive`.

    Raises:
        ValueError: shapes that differ.
    """
    check_pair(positive, negative)
    base = widened(positive)
    guided = base + (scale - 1) * (base - widened(negative))
    norm, limit = (value.abs().sum(-1, keepdim=True) for value in (guided, base))
    guided = guided * (tau * limit / norm.clamp_min(1e-12)).clamp_max(1)
    return (base + alpha * (guided - base)).to(positive.dtype)
