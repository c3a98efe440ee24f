"""CFG++: manifold-constrained classifier-free guidance (arXiv 2406.08070).

The denoised estimate moves from the unconditional to the conditional one by a fraction of at most 1, and the sampler
renoises with the unconditional noise. A sampler takes one prediction for both, so this pair is turned into the single
prediction that leads to the same next sample: classifier-free guidance with a weight that depends on both levels of the
step.
"""

import math

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import classifier_free_guidance
from ..core.levels import Level
from ..core.next_sample import end_level
from ..core.step import Step


def cfg_plus_plus_weight(scale: float, start: Level, end: Level) -> torch.Tensor:
    """The weight of classifier-free guidance that makes the step of CFG++ from one level to another, 0-d.

    With `x0 = x0_u + scale * (x0_c - x0_u)` the step of CFG++ is `alpha_s * x0 + sigma_s * eps_u`. A prediction of
    weight w leads to `alpha_s * x0_w + sigma_s * eps_w`, and both agree for
    `w = scale * alpha_s * sigma_t / (alpha_s * sigma_t - sigma_s * alpha_t)`, in every space that is linear in x0.

    Args:
        scale: of the paper, lambda.
        start, end: (alpha, sigma) at t and s.
    """
    (alpha, sigma), (alpha_end, sigma_end) = start, end
    reached = alpha_end * sigma
    return scale * reached / (reached - sigma_end * alpha)


class CFGPlusPlus(Callback):
    """Interpolates between both estimates, and renoises with the unconditional noise (CFG++).

    It replaces the pipeline's own guidance and needs no further evaluation of the network.
    Exact for samplers of first order without noise (DDIM, Euler, flow Euler); for others it is the same weight. A
    scheduler that clips x0 clips the combined estimate. Where a step ends at the clean sample it is plain
    classifier-free guidance of weight `scale`; `scale` 0 is the unconditional prediction, to the bit.

    Neutral: `scale=0`: the unconditional prediction.

    Args:
        scale: fraction of the way from the unconditional to the conditional estimate; the paper takes 0 to 1.
        start, stop: see `Callback`.

    Raises:
        ValueError: a scale that is negative or not finite; when called, a sampler that evaluates the network twice in a
            step.
    """

    needs_unconditional = True

    @register_to_config
    def __init__(self, scale: float = 0.6, start: float = 0.0, stop: float = 1.0):
        super().__init__(start, stop)
        if not (math.isfinite(scale) and scale >= 0):
            raise ValueError(f"scale must be finite and at least 0, got {scale}")
        self.scale = scale

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        weight = cfg_plus_plus_weight(self.scale, (step.alpha, step.sigma), end_level(step))
        return classifier_free_guidance(step.cond, step.uncond, weight)
