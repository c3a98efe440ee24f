"""How far the gradient of a classifier moves the estimate: a schedule with its constants."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...core.step import Step
from .reading import require_strengths
from .schedules import ancestral, denoised_variance, edm_shift, edm_strength, landing, learned_variance, variance_shift


#: schedule -> its own (scale, gamma); for "ddpm" and "edm" they are the authors'.
SCHEDULES = {"ddpm": (1.0, 0.3), "edm": (0.004, 0.3), "x0": (1.0, 0.3)}


@dataclass(frozen=True)
class Strength:
    """A schedule and its constants; a scale or gamma of None is the schedule's own.

    Args:
        schedule: "x0" for any sampler, flow models too: the estimate moves by its variance given the sample
            (`denoised_variance`). "ddpm", the authors' shift of the mean of ancestral steps, in units of x0. "edm", the
            authors' shift of the sample, for deterministic samplers; the shift that they make before network call i + 1
            is made in step i here, so that it costs no further call.
        scale, gamma: strength, and height of the bump in the middle of the trajectory; for "edm" the scale is `g_max`.
        data_std: standard deviation of x0, for schedule "x0"; None is 0.5 for pixels and 1 for latents.

    Raises:
        ValueError: another schedule, a scale or gamma that is negative or not finite, or `data_std` not above 0.
    """

    schedule: str = "x0"
    scale: float | None = None
    gamma: float | None = None
    data_std: float | None = None

    def __post_init__(self) -> None:
        if self.schedule not in SCHEDULES:
            raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {self.schedule!r}")
        require_strengths(scale=self.scale, gamma=self.gamma)
        if self.data_std is not None and not self.data_std > 0:
            raise ValueError(f"data_std must be above 0, got {self.data_std}")

    def constants(self) -> tuple[float, float]:
        """(scale, gamma)."""
        scale, gamma = SCHEDULES[self.schedule]
        return scale if self.scale is None else self.scale, gamma if self.gamma is None else self.gamma

    def shift(self, step: Step, gradient: Callable[[], torch.Tensor], latents: bool) -> torch.Tensor | None:
        """(B, ...) shift of the estimate in float32, or None for an evaluation that is not changed.

        Args:
            gradient: computed only where there is a shift.
            latents: whether the model works in latents, not in pixels.
        """
        if self.schedule != "edm" and self.constants()[0] == 0:  # the factor of "edm" is never below 1e-5
            return None
        if self.schedule == "x0":
            return self._x0(step, gradient(), latents)
        index, steps, then, share = landing(step)
        if then is None or (self.schedule == "edm" and index == steps - 1):
            return None
        now = (step.alpha, step.sigma)
        scale, gamma = self.constants()
        if self.schedule == "edm":
            moved = edm_shift(gradient(), step.sample, edm_strength(index + 1, steps, scale, gamma))
            return moved / (share * (then[0] - now[0] * then[1] / now[1]))
        variance, c0 = ancestral(now, then)
        learned = step.denoiser.learned_variance(step)
        if learned is not None:
            before = step.denoiser.level(None, step.grid_index - 1) if step.grid_index else None
            variance = learned_variance(learned, now, then, before)
        # The variance falls along the trajectory.
        largest, _ = ancestral(step.denoiser.level(None, step.first), step.denoiser.level(None, step.first + 1))
        time = (steps - 1 - index) / steps
        return variance_shift(gradient(), variance, largest, time, gamma, scale) / (share * c0)

    def _x0(self, step: Step, gradient: torch.Tensor, latents: bool) -> torch.Tensor:
        std = self.data_std or (1.0 if latents else 0.5)
        variance = denoised_variance((step.alpha, step.sigma), std)
        time = (step.total - 1 - step.index - step.ahead) / step.total
        scale, gamma = self.constants()
        return variance_shift(gradient, variance, std**2, time, gamma, scale)


#: Schedule "x0" with its own constants.
DEFAULT_STRENGTH = Strength()
