"""Rectified-CFG++: the guidance direction is taken where the conditional step leads (arXiv 2510.07631, NeurIPS 2025).

The prediction is the conditional flow's, corrected by the guidance direction at the next sample of that flow, so the
sampler stays near the conditional trajectory.
"""

import math

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import check_pair, widened
from ..core.next_sample import has_next, next_step
from ..core.step import Step


_STRAIGHT = ("flow_prediction", "epsilon")


def rectified_cfg(
    cond: torch.Tensor, next_cond: torch.Tensor, next_uncond: torch.Tensor, weight: float
) -> torch.Tensor:
    """`cond + weight * (next_cond - next_uncond)`, computed in float32.

    Args:
        cond: (B, ...) conditional prediction here: velocity (or eps).
        next_cond, next_uncond: (B, ...) at the next sample of the conditional flow.
        weight: 0 is the conditional prediction, to the bit.

    Returns:
        (B, ...) in the dtype of `cond`.

    Raises:
        ValueError: shapes that differ.
    """
    check_pair(cond, next_cond)
    check_pair(next_cond, next_uncond)
    return (widened(cond) + weight * (widened(next_cond) - widened(next_uncond))).to(cond.dtype)


class RectifiedCFG(Callback):
    """Takes the guidance direction where the conditional step leads (Rectified-CFG++).

    It replaces the pipeline's own guidance, and evaluates the network once more in each step.
    `v = v_c(x, t) + weight * (v_c(x~, s) - v_u(x~, s))` with x~ the next sample of `v_c(x, t)`. In the last step, whose
    next sample is clean, and where a Heun sampler only predicts, the direction is the one at x. `weight` corresponds to
    a weight of classifier-free guidance minus 1: 0 is the conditional prediction alone, to the bit, and costs nothing.
    The authors' code takes the whole step, as here; the same formula serves noise predictions, which like velocities
    stay as they are along a step.

    Neutral: `weight=0`: the conditional prediction.

    Args:
        weight: at least 0.
        start, stop: see `Callback`.

    Raises:
        ValueError: a weight that is negative or not finite; when called, a network that predicts v or x0, or a sampler
            without a next sample.
    """

    needs_unconditional = True

    @register_to_config
    def __init__(self, weight: float = 2.5, start: float = 0.0, stop: float = 1.0):
        super().__init__(start, stop)
        if not (math.isfinite(weight) and weight >= 0):
            raise ValueError(f"weight must be finite and at least 0, got {weight}")
        self.weight = weight

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        if step.prediction_type not in _STRAIGHT:
            raise ValueError(
                f"RectifiedCFG adds predictions of two noise levels, which fits {' and '.join(_STRAIGHT)}, and this "
                f"network's are {step.prediction_type}; use CFGPlusPlus or APG instead"
            )
        if not self.weight:
            return step.cond
        there = next_step(step, step.cond) if has_next(step) else step
        return rectified_cfg(step.cond, there.cond, there.uncond, self.weight)
