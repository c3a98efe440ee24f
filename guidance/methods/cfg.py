"""Classifier-free guidance with a weight per step and rescaling, and the guidance interval.

Sources: classifier-free guidance, arXiv 2207.12598; rescaling, arXiv 2305.08891 (section 3.4); guidance in a limited
interval of noise levels, arXiv 2404.07724.
"""

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import classifier_free_guidance
from ..core.needs import Upcoming
from ..core.step import Step
from ..core.weight import Weight, as_weight, weight_at


def rescale(prediction: torch.Tensor, cond: torch.Tensor, amount: float) -> torch.Tensor:
    """`prediction` brought towards the per-sample standard deviation of `cond`, by `amount` in [0, 1].

    arXiv 2305.08891, equations 14 to 16; by diffusers' own function, so equal to its `guidance_rescale` to the bit.
    """
    from diffusers.guiders.guider_utils import rescale_noise_cfg

    return rescale_noise_cfg(prediction, cond, guidance_rescale=amount)


class CFG(Callback):
    """Classifier-free guidance with its own weight (a number, one per step, a tensor or a function) and rescaling.

    Neutral: `CFG(w)` is the pipeline's own guidance of weight w.
    Source: arXiv 2207.12598, 2305.08891.

    Args:
        weight: a number; a sequence, one number per step (the last is kept if there are more steps); a tensor (B,), or
            of any shape that broadcasts to the prediction (B, ...), such as (1, 1, F, 1, 1) for the frames of a video;
            or a function of the `Step` that gives a number or such a tensor. None keeps the pipeline's own combination.
        rescale: 0 to 1, see `rescale`.
        along: a dimension of the prediction: the numbers of a sequence then run along it, one for each frame (or row,
            or token), and are the same in every step.
        start, stop: see `Callback`.

    Raises:
        ValueError: a weight that is not finite, an empty schedule, `rescale` outside [0, 1], or `along` without a
            sequence; when called, a weight whose shape does not fit the prediction.
    """

    needs_unconditional = True

    @register_to_config
    def __init__(
        self,
        weight: Weight | None = None,
        rescale: float = 0.0,
        along: int | None = None,
        start: float = 0.0,
        stop: float = 1.0,
    ):
        super().__init__(start, stop)
        if not 0 <= rescale <= 1:
            raise ValueError(f"rescale must be in [0, 1], got {rescale}")
        self.weight, self.rescale, self.along = as_weight(weight), rescale, along
        if self.weight is not weight:
            self.register_to_config(weight=self.weight)
        if along is not None and not isinstance(self.weight, Sequence):
            raise ValueError(f"along={along} needs a weight that is a sequence of numbers, got {weight!r}")

    @property
    def asks(self) -> bool:
        """Whether what stands before it has an effect; see `check_order`."""
        return self.weight is None

    def reads(self, upcoming: Upcoming) -> bool | None:
        if self.weight is None:
            return None
        weight = self.weight
        if isinstance(weight, Sequence) and self.along is None:
            weight = weight[min(upcoming.index, len(weight) - 1)]
        return not (isinstance(weight, int | float) and weight == 1)

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        if self.weight is None:
            prediction = proceed(step)
        else:
            prediction = classifier_free_guidance(step.cond, step.uncond, weight_at(self.weight, step, self.along))
        return rescale(prediction, step.cond, self.rescale) if self.rescale else prediction


class GuidanceInterval(Callback):
    """Guides only while the noise level lies in (low, high]; outside, the conditional prediction stands alone.

    arXiv 2404.07724, equation 5. The level is sigma / alpha, the sigma of EDM, whatever the scheduler (t / (1 - t) for
    flow models). It limits whatever stands before it in the list; alone it limits the pipeline's own guidance.

    Neutral: the whole range.
    Source: arXiv 2404.07724.

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

    def reads(self, upcoming: Upcoming) -> bool | None:
        level = upcoming.level()
        return None if level is None or bool(self._inside(*level)) else False

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        # Compared on the device, without a branch.
        inside = self._inside(step.alpha, step.sigma).to(step.cond.device, non_blocking=True)
        return torch.where(inside, proceed(step), step.cond)

    def _inside(self, alpha: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        inside = sigma > self.low * alpha  # multiplied out, since alpha may be 0
        return inside if self.high is None else inside & (sigma <= self.high * alpha)
