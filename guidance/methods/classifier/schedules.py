"""How strongly a classifier's gradient moves the sample: the two schedules of EluCD (arXiv 2310.11311) and one in x0.

Each is `(variance + gamma * max_variance * sin(pi * time)) * gradient`, or has the same bump in the middle of the
trajectory. `time` runs from 1 (noise) to 0 (data) on the sampler's own steps.
"""

import math

import torch

from ...core.combine import per_sample, widened
from ...core.levels import Level
from ...core.step import Step


def bump(time: float) -> float:
    """`sin(pi * time)`, at least 0, for `time` in [0, 1]."""
    return max(math.sin(math.pi * time), 0.0)


def variance_shift(
    gradient: torch.Tensor,
    variance: torch.Tensor | float,
    max_variance: torch.Tensor | float,
    time: float,
    gamma: float,
    scale: float,
) -> torch.Tensor:
    """`scale * (variance + gamma * max_variance * sin(pi * time)) * gradient`.

    With the variances of the ancestral step it is the authors' shift of the mean (their DDPM code, `p_sample`); with
    `denoised_variance` it is the shift of the denoised estimate.

    Args:
        gradient: (B, ...) of log p(y | image).
        variance, max_variance: of this step, and the largest of the trajectory; numbers or 0-d.
        time: 1 (noise) to 0 (data).

    Returns:
        (B, ...) in float32 (float64 for float64).
    """
    return scale * (variance + gamma * bump(time) * max_variance) * widened(gradient)


def ancestral(now: Level, then: Level) -> tuple[torch.Tensor, torch.Tensor]:
    """(variance, c0) of the ancestral step between two noise levels, `x_s ~ N(c0 x0 + c_t x_t, variance)`.

    Both follow from q(x_s | x_t, x0) for any alpha and sigma. For DDPM they are
    `(1 - abar_s) / (1 - abar_t) * beta` and `sqrt(abar_s) * beta / (1 - abar_t)` with `beta = 1 - abar_t / abar_s`.

    Args:
        now, then: (alpha, sigma) of x_t and of x_s, which is less noisy.
    """
    (alpha, sigma), (alpha_s, sigma_s) = now, then
    added = sigma**2 - (alpha / alpha_s * sigma_s) ** 2
    return (sigma_s / sigma) ** 2 * added, alpha_s * added / sigma**2


def learned_variance(raw: torch.Tensor, now: Level, then: Level, before: Level | None = None) -> torch.Tensor:
    """(B, ...) variance of the ancestral step that a network predicts as `raw`, between its two bounds.

    `raw` runs from -1 to 1: the posterior variance, and all of the noise that was added (`beta`); in logarithms
    (Improved DDPM, arXiv 2102.09672). The last step has posterior variance 0 and takes the value of the step before, as
    OpenAI's code does.

    Args:
        raw: (B, ...) what the network returns next to its prediction.
        now, then: (alpha, sigma) where the step begins and ends.
        before: where the step before began, or None in the first.
    """
    lower, _ = ancestral(now, then)
    (alpha, sigma), (alpha_s, sigma_s) = now, then
    upper = sigma**2 - (alpha / alpha_s * sigma_s) ** 2
    if before is not None:
        lower = torch.where(torch.as_tensor(sigma_s > 0), lower, ancestral(before, now)[0])
    share = (widened(raw) + 1) / 2
    return torch.exp(share * upper.log() + (1 - share) * lower.clamp_min(1e-20).log())


def denoised_variance(level: Level, std: float) -> torch.Tensor:
    """Variance of x0 given x_t for data of standard deviation `std`: `std^2 sigma^2 / (alpha^2 std^2 + sigma^2)`.

    By Tweedie's formula a condition y moves E[x0 | x_t] by `sigma^2 / alpha` times the gradient of log p(y | x_t) with
    respect to x_t. That gradient is the one at the estimate times `d E[x0 | x_t] / d x_t`, which is
    `alpha / sigma^2 * Cov[x0 | x_t]`. So the shift is the covariance of x0 given x_t times the gradient at the
    estimate; here the covariance is for independent Gaussian data, which needs no pass through the denoiser. It is
    `std^2` at pure noise, also where alpha is 0, and 0 for clean samples. Exact, with scale 1 and gamma 0, for such
    data and a log-probability that is linear in x0.
    """
    alpha, sigma = level
    return std**2 * sigma**2 / (alpha**2 * std**2 + sigma**2)


def landing(step: Step) -> tuple[int, int, Level | None, float]:
    """(number of the sampler's step, of how many, level where it ends, share of this evaluation in it).

    A second-order sampler's first evaluation has half of the step's weight; its second is left alone, and has no level.
    """
    if step.grid_index is None:
        raise ValueError('the schedules "ddpm" and "edm" need a step of the sampler\'s grid; "x0" works anywhere')
    steps = step.total
    if getattr(step.denoiser.component("scheduler"), "order", 1) == 1:
        return step.index + step.ahead, steps, step.denoiser.level(None, step.grid_index + 1), 1.0
    number, second = divmod(step.grid_index - step.first, 2)
    if second:
        return number, steps, None, 0.0
    return number, steps, step.denoiser.level(None, step.grid_index + 1), 1.0 if number == steps - 1 else 0.5


def edm_strength(index: int, steps: int, g_max: float = 0.004, gamma: float = 0.3) -> float:
    """The authors' factor before network call `index` of an EDM sampler of `steps` steps (their `edm_sampler`).

    `max(g_max * (n - index) / n, 1e-5) + sin(pi * index / steps) * g_max * gamma`, with n = steps + 1 noise levels.
    """
    levels = steps + 1
    return max(g_max * (levels - index) / levels, 1e-5) + math.sin(math.pi * index / steps) * g_max * gamma


def edm_input(sample: torch.Tensor, alpha: torch.Tensor | float = 1.0) -> torch.Tensor:
    """(B, ...) what the authors' EDM sampler shows the classifier: `x / max(rms(x), 1)` of x = sample / alpha."""
    return sample / per_sample(torch.clamp(_rms(sample), min=alpha), sample)


def edm_shift(gradient: torch.Tensor, sample: torch.Tensor, strength: float) -> torch.Tensor:
    """(B, ...) shift of the sample: the gradient with the root mean square of `strength * rms(sample)`, per sample.

    0 where the gradient is 0.
    """
    gradient = widened(gradient)
    length = _rms(gradient)
    factor = strength * _rms(sample).to(length.dtype) / length.clamp_min(torch.finfo(length.dtype).tiny)
    return per_sample(factor, gradient) * gradient


def _rms(tensor: torch.Tensor) -> torch.Tensor:
    return widened(tensor).flatten(1).square().mean(1).sqrt()
