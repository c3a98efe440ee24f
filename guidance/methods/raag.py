"""RAAG: ratio aware adaptive guidance (arXiv 2508.03442; from its version 3 on titled MAMBO-G).

The guidance weight falls with the ratio of the guidance direction to the unconditional prediction. The ratio spikes at
the first steps, where a large weight does most harm, so few-step sampling stays stable under strong guidance.
"""

import math

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import check_pair, classifier_free_guidance, per_sample, sample_norm, widened
from ..core.step import Step


def raag_ratio(cond: torch.Tensor, uncond: torch.Tensor) -> torch.Tensor:
    """`||cond - uncond|| / ||uncond||` for each sample (equation 5 of the paper), with plain L2 norms.

    The authors' script takes one norm over the whole batch; here each sample has its own, so that a result never
    depends on what else is in the batch.

    Args:
        cond, uncond: predictions (B, ...) of one shape, in the network's own parameterization.

    Returns:
        (B,) float32 (float64 for float64 predictions), at least 0; finite also where `uncond` is zero, and 0 where both
        are.

    Raises:
        ValueError: shapes that differ.
    """
    check_pair(cond, uncond)
    base = widened(uncond)
    return _ratio(widened(cond) - base, base)


def raag_weight(ratio: torch.Tensor, w_max: float, alpha: float) -> torch.Tensor:
    """`1 + (w_max - 1) * exp(-alpha * ratio)`: w_max at ratio 0, falling to 1.

    Args:
        ratio: (B,) as `raag_ratio` gives it.
        w_max: weight in the limit of a small ratio. (The authors' README writes `1 + w_max * exp(...)`: their w_max is
            ours minus one.)
        alpha: how fast the weight falls, at least 0; 0 is plain classifier-free guidance of weight `w_max`.

    Returns:
        (B,) in the dtype of `ratio`.
    """
    return 1 + (w_max - 1) * torch.exp(-alpha * ratio)


def raag(cond: torch.Tensor, uncond: torch.Tensor, w_max: float, alpha: float) -> torch.Tensor:
    """Guided prediction (B, ...) in the dtype of `cond`: `uncond + raag_weight(raag_ratio) * (cond - uncond)`."""
    if alpha == 0:  # rounded as plain guidance is
        return classifier_free_guidance(cond, uncond, w_max)
    check_pair(cond, uncond)
    base = widened(uncond)
    direction = widened(cond) - base  # computed once, for the ratio and for the result
    weight = raag_weight(_ratio(direction, base), w_max, alpha)
    return torch.addcmul(base, per_sample(weight, base), direction).to(cond.dtype)


class RAAG(Callback):
    """Lowers the weight with the ratio of the guidance direction to the unconditional prediction (see `raag`).

    It replaces the pipeline's own guidance.

    Neutral: `alpha=0`: plain classifier-free guidance of weight `w_max`.

    Args:
        w_max, alpha: see `raag_weight`. The defaults are the authors' for Stable Diffusion 3.5 large in 10 steps.
        start, stop: see `Callback`.

    Raises:
        ValueError: `w_max` not finite, or `alpha` negative or not finite.
    """

    needs_unconditional = True

    @register_to_config
    def __init__(self, w_max: float = 18.0, alpha: float = 12.0, start: float = 0.0, stop: float = 1.0):
        super().__init__(start, stop)
        if not math.isfinite(w_max) or not (math.isfinite(alpha) and alpha >= 0):
            raise ValueError(f"RAAG needs a finite w_max and alpha >= 0, got w_max={w_max}, alpha={alpha}")
        self.w_max, self.alpha = w_max, alpha

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        return raag(step.cond, step.uncond, self.w_max, self.alpha)


def _ratio(direction: torch.Tensor, base: torch.Tensor) -> torch.Tensor:
    # Norms of float32 differences: a difference in bfloat16 would carry its rounding.
    return sample_norm(direction) / sample_norm(base).clamp_min(1e-12)
