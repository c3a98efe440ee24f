"""APG: adaptive projected guidance (arXiv 2410.02416, ICLR 2025).

The part of the guidance direction parallel to the conditional estimate saturates images under strong guidance. That
part is scaled down, the direction's norm is limited, and a negative momentum keeps it from accumulating.
"""

import math

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import check_pair, classifier_free_guidance, per_sample, sample_norm, widened
from ..core.memory import Remembers
from ..core.step import Step


SPACES = ("x0", "prediction")


def apg(
    cond: torch.Tensor,
    uncond: torch.Tensor,
    weight: float,
    eta: float = 0.0,
    norm_threshold: float | None = None,
    average: torch.Tensor | None = None,
    momentum: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """`cond + (weight - 1) * (orthogonal + eta * parallel)`, the guided estimate, and the new average of directions.

    The direction is `cond - uncond + momentum * average`, scaled to a norm of at most `norm_threshold`; parallel and
    orthogonal are to `cond`, per sample, over all dimensions but the first (algorithm 1 of the paper).

    Args:
        cond, uncond: (B, ...) estimates x0 (what the paper projects), or predictions.
        weight: 1 is `cond`.
        eta: of the parallel part; 1 leaves the direction as it is.
        norm_threshold: above 0, or None for no limit.
        average: (B, ...) as returned in the step before; None at the first.
        momentum: the paper takes -0.5 to -0.75; 0 for none.

    Returns:
        Two (B, ...) in float32 (float64 for float64).

    Raises:
        ValueError: shapes that differ.
    """
    check_pair(cond, uncond)
    base = widened(cond)
    direction = base - widened(uncond)
    if average is not None:
        direction = direction + momentum * average
    average = direction
    if norm_threshold is not None:
        limit = norm_threshold / sample_norm(direction).clamp_min(1e-12)
        direction = direction * per_sample(limit.clamp_max(1), direction)
    square = base.flatten(1).square().sum(1).clamp_min(1e-12)
    share = (direction * base).flatten(1).sum(1) / square
    parallel = per_sample(share, base) * base
    return base + (weight - 1) * (direction - (1 - eta) * parallel), average


class APG(Remembers, Callback):
    """Scales down the parallel part of the guidance direction, limits its norm and adds negative momentum (see `apg`).

    It replaces the pipeline's own guidance and needs no further evaluation.

    Neutral: `eta=1, momentum=0`, no threshold: plain classifier-free guidance, to the bit.

    Args:
        weight: as in classifier-free guidance.
        eta, norm_threshold, momentum: see `apg`. The threshold is in units of the space: the paper's are for x0 (15 for
            Stable Diffusion XL, 2.5 to 5 for its smaller models).
        space: "x0" projects denoised estimates, as the paper does; "prediction" the network's predictions, as the
            guider of diffusers does.
        start, stop: see `Callback`.

    Raises:
        ValueError: an argument out of range; when called in space "x0", a scheduler that is not understood.
    """

    needs_unconditional = True
    words = {"space": SPACES}  # noqa: RUF012 (see Callback)

    @register_to_config
    def __init__(
        self,
        weight: float = 5.0,
        eta: float = 0.0,
        norm_threshold: float | None = None,
        momentum: float = -0.5,
        space: str = "x0",
        start: float = 0.0,
        stop: float = 1.0,
    ):
        super().__init__(start, stop)
        if not all(math.isfinite(value) for value in (weight, eta, momentum)):
            raise ValueError(f"weight, eta and momentum must be finite, got {weight}, {eta} and {momentum}")
        if not (norm_threshold is None or norm_threshold > 0):
            raise ValueError(f"norm_threshold must be None or above 0, got {norm_threshold}")
        if space not in SPACES:
            raise ValueError(f"space must be one of {', '.join(SPACES)}, got {space!r}")
        self.weight, self.eta, self.norm_threshold = weight, eta, norm_threshold
        self.momentum, self.space = momentum, space

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        if self.eta == 1 and self.norm_threshold is None and not self.momentum:
            return classifier_free_guidance(step.cond, step.uncond, self.weight)
        cond, uncond = step.cond, step.uncond
        if self.space == "x0":
            cond, uncond = step.to_x0(cond), step.to_x0(uncond)
        average = self.recalled(step) if self.momentum else None
        guided, average = apg(cond, uncond, self.weight, self.eta, self.norm_threshold, average, self.momentum)
        if self.momentum:
            self.remember(step, average)
        return (step.from_x0(guided) if self.space == "x0" else guided).to(step.cond.dtype)
