"""How strongly each image was guided, as an equivalent weight of classifier-free guidance, to compare methods."""

import numpy as np
import torch

from ..core.callback import Proceed
from ..core.combine import effective_weight, sample_norm
from ..core.needs import Upcoming
from ..core.step import Step
from .metrics.estimate import Estimate, mean_estimate


FIELD = "effective_weight"


class EffectiveWeight:
    """An observer, last in a list: the one weight of classifier-free guidance that best fits a whole trajectory.

    That is the w that minimises `sum_t ||p_t - u_t - w (c_t - u_t)||^2` over the steps t, for each sample: the mean of
    `effective_weight` with `||c_t - u_t||^2` as weights, so that steps in which guidance can hardly do anything count
    for little. A step whose unconditional pass was left out counts with weight 1 and the square of the step before.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[torch.Tensor, torch.Tensor]] = []

    def unconditional(self, upcoming: Upcoming) -> None:
        """It reads what there is; see `needs_unconditional`."""

    def __call__(self, step: Step, proceed: Proceed) -> torch.Tensor:
        prediction = proceed(step)
        if step.elsewhere:
            return prediction
        if step.has_unconditional:
            square = sample_norm(step.cond.float() - step.uncond.float()).square()
            self._steps.append((effective_weight(prediction, step.cond, step.uncond), square))
        elif self._steps:
            self._steps.append((torch.ones_like(self._steps[-1][0]), self._steps[-1][1]))
        return prediction

    def take(self) -> dict[str, torch.Tensor]:
        """`effective_weight` (B,) of the call that has just ended, which is then forgotten; nothing where no step had
        both predictions. 1 for a sample whose predictions were equal throughout."""
        if not self._steps:
            return {}
        weights, squares = (torch.stack(values) for values in zip(*self._steps, strict=True))
        self._steps.clear()
        total = squares.sum(0)
        tiny = torch.finfo(torch.float32).tiny
        return {FIELD: torch.where(total > 0, (weights * squares).sum(0) / total.clamp_min(tiny), 1.0)}


def weight_estimate(values: np.ndarray) -> list[Estimate]:
    """The mean over images (N,), with a warning where some have none because their predictions were not finite."""
    known = values[np.isfinite(values)]
    warning = f"{len(values) - len(known)} of {len(values)} images have none: their predictions are not finite"
    return [mean_estimate(FIELD, known, warning if len(known) < len(values) else None)] if len(known) else []
