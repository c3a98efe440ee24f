"""FBG: feedback guidance (arXiv 2506.06085). The weight of each sample depends on how well it already matches its
condition, estimated along the trajectory.

The state is the log of the ratio p(c | x_t) / p(c). Where it falls, the sample leaves its condition, and the weight
rises. Everything is computed for z = x / alpha, with s = sigma / alpha as its noise, which suits every sampler.
"""

import math

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import classifier_free_guidance, widened
from ..core.levels import Level
from ..core.memory import Remembers
from ..core.step import Step


REFERENCE, RISE, HIGHEST = 3.0, 10.0, 3.0  # the authors' lambda_ref and alpha, and their upper end of the log ratio


def feedback_weight(log_ratio: torch.Tensor, prior: float) -> torch.Tensor:
    """`e^L / (e^L - (1 - prior))`, (B,): 1 for a large L, larger the lower it is; `prior` is the paper's pi."""
    return 1 / (1 - (1 - prior) * torch.exp(-log_ratio))


def transition_variance(start: Level, end: Level) -> torch.Tensor:
    """`(s_t^2 - s_n^2) * s_n^2 / s_t^2`, 0-d: the variance of z_n given z_t and x0. Finite where alpha is 0 at t."""
    (alpha, sigma), (alpha_end, sigma_end) = start, end
    kept = (sigma_end * alpha / (alpha_end * sigma)).square()
    return (1 - kept) * (sigma_end / alpha_end).square()


def evidence(
    reached: torch.Tensor, sample: torch.Tensor, cond: torch.Tensor, uncond: torch.Tensor, start: Level, end: Level
) -> torch.Tensor:
    """(B,) `||z_n - m_c||^2 - ||z_n - m_u||^2`: negative where the step went the way of the condition.

    m is the mean of z_n given z_t and the estimate: `s_n^2 / s_t^2 * z_t + (1 - s_n^2 / s_t^2) * x0`.

    Args:
        reached, sample: (B, ...) x at the levels `end` and `start`.
        cond, uncond: (B, ...) estimates x0 at `start`.
    """
    (alpha, sigma), (alpha_end, sigma_end) = start, end
    kept = (sigma_end * alpha / (alpha_end * sigma)).square()
    # s_n^2 / s_t^2 * z_t, without a division by alpha, which is 0 at pure noise.
    carried = (sigma_end / (alpha_end * sigma)).square() * alpha * widened(sample)
    offset = widened(reached) / alpha_end - carried  # z_n, from where x0 = 0 would lead
    cond, uncond = (1 - kept) * widened(cond), (1 - kept) * widened(uncond)
    return ((uncond - cond) * (2 * offset - cond - uncond)).flatten(1).sum(1)


class FeedbackGuidance(Remembers, Callback):
    """Gives each sample a weight that depends on how well it already matches its condition (FBG).

    It replaces the pipeline's own guidance and needs no further evaluation.
    `L <- L - temperature / (2 s~^2) * evidence + offset` from one step to the next, with `evidence` and s~^2
    (`transition_variance`) as above, L between `log((1 - prior) * w_max / (w_max - 1))` and 3, and 0 at first; the
    weight is `feedback_weight`. With temperature and offset 0 it is classifier-free guidance of weight 1 / prior.

    Notes for `Trace`: `log_ratio` (B,).

    Neutral: `temperature=0, offset=0`.

    Args:
        prior: the paper's pi, between 0 and 1: how much of the network's conditional prediction is trusted.
        w_max: the largest weight, above 1.
        t0, t1: fractions of the steps, counted from the clean end: where the weight would reach 3 by the offset alone,
            and where one step's evidence changes L most. The authors take .5 and .35 to .4.
        temperature, offset: None for those that t0 and t1 give:
            `offset = log((1 - prior) * 3 / 2) / ((1 - t0) * N)`, `temperature = |2 * s~^2(t1) / 10 * offset|`.
        start, stop: see `Callback`.

    Raises:
        ValueError: an argument out of range; when called, a scheduler that is not understood, or a step off the grid.
    """

    needs_unconditional = True

    @register_to_config
    def __init__(
        self,
        prior: float = 0.95,
        w_max: float = 10.0,
        t0: float = 0.5,
        t1: float = 0.4,
        temperature: float | None = None,
        offset: float | None = None,
        start: float = 0.0,
        stop: float = 1.0,
    ):
        super().__init__(start, stop)
        if not (0 < prior < 1 and 0 <= t0 < 1 and 0 <= t1 < 1):
            raise ValueError(f"prior must be in (0, 1), t0 and t1 in [0, 1), got {prior}, {t0} and {t1}")
        if not (1 < w_max < math.inf):
            raise ValueError(f"w_max must be finite and above 1, got {w_max}")
        if not all(value is None or math.isfinite(value) for value in (temperature, offset)):
            raise ValueError(f"temperature and offset must be None or finite, got {temperature} and {offset}")
        self.prior, self.w_max, self.t0, self.t1 = prior, w_max, t0, t1
        self.temperature, self.offset = temperature, offset
        self._lowest = math.log((1 - prior) * w_max / (w_max - 1))

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        level, x0 = (step.alpha, step.sigma), (step.to_x0(step.cond), step.to_x0(step.uncond))
        log_ratio = self._log_ratio(step, level)
        self.remember(step, (step.sample, *x0, level, log_ratio))
        step.notes["log_ratio"] = log_ratio
        still = self.temperature == 0 and self.offset == 0  # a number, rounded as plain guidance is
        weight = 1 / self.prior if still else feedback_weight(log_ratio, self.prior)
        return classifier_free_guidance(step.cond, step.uncond, weight)

    def _log_ratio(self, step: Step, level: Level) -> torch.Tensor:
        before = self.recalled(step)
        if before is None:
            found = torch.zeros(len(step.sample), device=step.sample.device)
        else:
            sample, cond, uncond, start, found = before
            temperature, offset = self._constants(step)
            variance = transition_variance(start, level).clamp_min(1e-20)  # 0 where a sampler stays at its level
            found = (
                found
                - temperature / (2 * variance) * evidence(step.sample, sample, cond, uncond, start, level)
                + offset
            )
        return found.clamp(self._lowest, max(HIGHEST, self._lowest))

    def _constants(self, step: Step) -> tuple[float | torch.Tensor, float]:
        offset = self.offset
        temperature: float | torch.Tensor | None = self.temperature
        if offset is None:
            offset = math.log((1 - self.prior) * REFERENCE / (REFERENCE - 1)) / ((1 - self.t0) * step.total)
        if temperature is None:
            temperature = (2 * self._variance_at(step, self.t1 * step.total) / RISE * offset).abs()
        return temperature, offset

    def _variance_at(self, step: Step, position: float) -> torch.Tensor:
        """Of the transition that many steps before the clean end, interpolated between two."""
        if step.grid_index is None:
            raise ValueError("feedback guidance is off the sampler's grid here; give it temperature and offset")
        last = step.grid_index - step.index - step.ahead + step.total - 1
        below = int(position)
        low, high = (self._transition(step, last - k) for k in (below, min(below + 1, step.total - 1)))
        return torch.lerp(low, high, position - below)

    def _transition(self, step: Step, index: int) -> torch.Tensor:
        return transition_variance(
            step.denoiser.level(step.timestep, index), step.denoiser.level(step.timestep, index + 1)
        )
