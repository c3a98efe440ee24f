"""Classifier-free guidance with a weight per step and rescaling, and the guidance interval.

Sources: classifier-free guidance, arXiv 2207.12598; rescaling, arXiv 2305.08891 (section 3.4); guidance in a limited
interval of noise levels, arXiv 2404.07724.
"""

import math
from collections.abc import Callable, Sequence

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import classifier_free_guidance
from ..core.step import Step


Weight = float | Sequence[float] | Callable[[Step], float | torch.Tensor]


def rescale(prediction: torch.Tensor, cond: torch.Tensor, amount: float) -> torch.Tensor:
    """`prediction` brought towards the per-sample standard deviation of `cond`, by `amount` in [0, 1].

    arXiv 2305.08891, equations 14 to 16; by diffusers' own function, so equal to its `guidance_rescale` to the bit.
    """
    from diffusers.guiders.guider_utils import rescale_noise_cfg

    return rescale_noise_cfg(prediction, cond, guidance_rescale=amount)


class CFG(Callback):
    """Classifier-free guidance with a weight of its own, in place of the pipeline's.

    Args:
        weight: a number; a sequence, one number a step (the last is kept if there are more steps); or a function of
            the `Step` that gives a number or a tensor (B,). None keeps the pipeline's own combination.
        rescale: 0 to 1, see `rescale`.
        start, stop: see `Callback`.

    Raises:
        ValueError: a weight that is not finite, an empty schedule, or `rescale` outside [0, 1].
    """

    needs_unconditional = True

    @register_to_config
    def __init__(self, weight: Weight | None = None, rescale: float = 0.0, start: float = 0.0, stop: float = 1.0):
        super().__init__(start, stop)
        if not (weight is None or callable(weight)):
            numbers = weight if isinstance(weight, Sequence) and weight else [weight]
            if not all(isinstance(number, float | int) and math.isfinite(number) for number in numbers):
                raise ValueError(
                    f"weight must be a finite number, one such number a step, or a function, got {weight!r}"
                )
        if not 0 <= rescale <= 1:
            raise ValueError(f"rescale must be in [0, 1], got {rescale}")
        self.weight, self.rescale = weight, rescale

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        if self.weight is None:
            prediction = proceed(step)
        else:
            prediction = classifier_free_guidance(step.cond, step.uncond, self._weight_at(step))
        return rescale(prediction, step.cond, self.rescale) if self.rescale else prediction

    def _weight_at(self, step: Step) -> float | torch.Tensor:
        if callable(self.weight):
            return self.weight(step)
        if isinstance(self.weight, Sequence):
            return self.weight[min(step.index + step.ahead, len(self.weight) - 1)]
        return self.weight


class GuidanceInterval(Callback):
    """Guidance only while the noise level lies in (low, high]; outside, the conditional prediction alone.

    arXiv 2404.07724, equation 5. The level is sigma / alpha, the sigma of EDM, whatever the scheduler (t / (1 - t) for
    flow models). It limits whatever stands before it in the list; alone it limits the pipeline's own guidance.

    Args:
        low, high: 0 <= low < high, in units of sigma / alpha. None for no upper end. The paper's best for EDM2-S at
            512 pixels is (0.28, 2.9].
        start, stop: see `Callback`; outside them `proceed` passes unchanged.

    Raises:
        ValueError: unless 0 <= low < high.
    """

    needs_unconditional = True

    @register_to_config
    def __init__(self, low: float = 0.28, high: float | None = 2.9, start: float = 0.0, stop: float = 1.0):
        super().__init__(start, stop)
        if low < 0 or (high is not None and not low < high):
            raise ValueError(f"the interval needs 0 <= low < high, got low={low}, high={high}")
        self.low, self.high = low, high

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        # Compared on the device, without a branch: multiplied out, since alpha may be 0.
        inside = step.sigma > self.low * step.alpha
        if self.high is not None:
            inside = inside & (step.sigma <= self.high * step.alpha)
        inside = inside.to(step.cond.device, non_blocking=True)
        return torch.where(inside, proceed(step), step.cond)
