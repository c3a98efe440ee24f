"""CFG-MP: classifier-free guidance of flow models with a projection onto the manifold where both predictions agree
(arXiv 2601.21892, ICML 2026).

Before a guided step the sample moves half a step back along the unconditional and half a step forward along the
conditional velocity, repeatedly: at the fixed point the two cancel, so the guidance direction is small there. Anderson
mixing accelerates the iteration (the paper's CFG-MP+).
"""

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import per_sample, widened
from ..core.memory import Remembers
from ..core.next_sample import end_level, step_error
from ..core.step import Step


def anderson_mixing(points: list[torch.Tensor], residuals: list[torch.Tensor], ridge: float = 1e-4) -> torch.Tensor:
    """The next point of the fixed-point iteration z <- z + f(z), from the last m + 1 points and residuals f.

    `sum_i a_i (z_i + f_i)` with the weights a, summing to 1, that make `||sum_i a_i f_i||` smallest, per sample:
    least squares in the differences of residuals, with `ridge` as the weight of the coefficients. One point: z + f.

    Args:
        points, residuals: m + 1 tensors (B, ...) each in float32, the latest last.
        ridge: above 0.

    Returns:
        (B, ...).
    """
    target = points[-1] + residuals[-1]
    if len(points) == 1:
        return target
    last = residuals[-1].flatten(1)
    change = torch.stack([last - other.flatten(1) for other in residuals[:-1]], dim=2)  # (B, D, m)
    size = change.shape[2]
    damping = (ridge * torch.eye(size, device=last.device, dtype=last.dtype)).expand(len(last), size, size)
    # By QR: normal equations would square a condition number that is bad near the fixed point; `lstsq` waits on a GPU.
    q, r = torch.linalg.qr(torch.cat([change, damping], dim=1))
    found = torch.linalg.solve_triangular(r, q[:, : last.shape[1]].mT @ last[:, :, None], upper=True)[:, :, 0]
    for k in range(size):
        target = target + per_sample(found[:, k], target) * (points[k] + residuals[k] - points[-1] - residuals[-1])
    return target


def projected(
    step: Step, iterations: int, window: int = 2, ridge: float = 1e-4, damping: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sample where both predictions agree, and how far they are from that at the step's own sample.

    Networks that predict no velocity move along the noise instead, by sigma / alpha (ours; the paper has flows only).

    Args:
        step: with an unconditional prediction, on the grid of a sampler that evaluates the network once in a step.
        iterations: from 1; each evaluates the network twice, minus one in the first.
        window, ridge: see `ManifoldProjection`.
        damping: this share of each move is made.

    Returns:
        (B, ...) in float32 (float64 for float64), and (B,) the mean squared difference of the two slopes at first: of
        the velocities, or of the noises times alpha.
    """
    points: list[torch.Tensor] = []
    residuals: list[torch.Tensor] = []
    half, current = _length(step) / 2, widened(step.sample)
    for _ in range(iterations):
        here = _at(step, current) if points else step
        back = current - half * _slope(here, here.uncond)
        there = _at(step, back)
        points.append(current)
        residuals.append(damping * (back + half * _slope(there, there.cond) - current))
        if len(points) == 1:
            error = step_error(_slope(there, there.cond), _slope(here, here.uncond))
        points, residuals = points[-window - 1 :], residuals[-window - 1 :]
        current = anderson_mixing(points, residuals, ridge)
    return current, error


def leading_through(step: Step, proceed: Proceed, sample: torch.Tensor) -> torch.Tensor:
    """(B, ...) in float32 (float64 for float64): the prediction at `step` that leads where the guided one at `sample`
    (B, ...) would; an evaluation more."""
    there = _at(step, sample)
    slope = _slope(there, proceed(there)) + (sample - widened(step.sample)) / _length(step)
    if step.prediction_type == "flow_prediction":
        return slope
    eps = slope / step.alpha
    if step.prediction_type == "epsilon":
        return eps
    return step.from_x0((widened(step.sample) - step.sigma * eps) / step.alpha)


def _length(step: Step) -> torch.Tensor:
    """Of the sampler's step, in the time of `_slope`."""
    (alpha, sigma), (end_alpha, end_sigma) = (step.alpha, step.sigma), end_level(step)
    if step.prediction_type == "flow_prediction":
        return end_sigma - sigma
    return end_sigma / end_alpha - sigma / alpha


def _slope(step: Step, prediction: torch.Tensor) -> torch.Tensor:
    """Of the sample, by time for velocities; otherwise by sigma / alpha, with alpha held."""
    if step.prediction_type == "flow_prediction":
        return widened(prediction)
    return step.alpha * step.to_eps(prediction)


def _at(step: Step, sample: torch.Tensor) -> Step:
    return step.at(sample.to(step.sample.dtype), timestep=step.timestep)


class ManifoldProjection(Remembers, Callback):
    """Moves the sample to where both predictions agree before a guided step (CFG-MP, for flow models).

    It acts around what stands before it in the list: `[CFG(4.5), ManifoldProjection()]`.
    With z = x at first, h = s - t and both velocities at the time t of the step, it iterates
    `z~ = z - h / 2 * v_u(z)`, `z <- z~ + h / 2 * v_c(z~)` (by `anderson_mixing`), and then guides at z: the prediction
    returned, `v(z) + (z - x) / h`, leads where a step from z would. Each iteration evaluates the network twice, minus
    one in the first, and the guided prediction at z once more: 2 * iterations more evaluations per step, of which the
    method uses a half each, except for the last.

    It reads the levels of the grid once a run, to compare them with `threshold` on the host. Callbacks with a state
    from step to step (APG's momentum, feedback guidance) keep none before it, since they are asked elsewhere only.

    Neutral: `iterations=0`.

    Args:
        iterations: the paper takes 3; 0 changes nothing, to the bit, and costs nothing.
        window: how many earlier points are mixed (the paper's m); 0 for the plain iteration (CFG-MP).
        ridge: see `anderson_mixing`.
        threshold: only in steps with a time t = sigma above this.
        start, stop: see `Callback`.

    Raises:
        ValueError: an argument out of range; when called, a network that does not predict a velocity, or a sampler that
            evaluates the network twice in a step.
    """

    needs_unconditional = True

    @register_to_config
    def __init__(
        self,
        iterations: int = 3,
        window: int = 2,
        ridge: float = 1e-4,
        threshold: float = 0.6,
        start: float = 0.0,
        stop: float = 1.0,
    ):
        super().__init__(start, stop)
        if not all(isinstance(count, int) and count >= 0 for count in (iterations, window)):
            raise ValueError(f"iterations and window must be whole numbers from 0, got {iterations!r} and {window!r}")
        if not (0 < ridge < float("inf")):
            raise ValueError(f"ridge must be finite and above 0, got {ridge}")
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in [0, 1], got {threshold}")
        self.iterations, self.window, self.ridge, self.threshold = iterations, window, ridge, threshold

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        if step.prediction_type != "flow_prediction":
            raise ValueError(
                f"ManifoldProjection moves along velocities, and this network predicts {step.prediction_type}; use it "
                "with a flow model"
            )
        if not self.iterations or not self._is_noisy(step):
            return proceed(step)
        sample, _ = projected(step, self.iterations, self.window, self.ridge)
        return leading_through(step, proceed, sample).to(step.cond.dtype)

    def _is_noisy(self, step: Step) -> bool:
        if step.grid_index is None:
            return False
        levels = self.recalled(step)
        if levels is None:
            grid = range(len(step.denoiser.scheduler.timesteps))
            levels = torch.stack([step.denoiser.level(step.timestep, k)[1] for k in grid]).tolist()
        self.remember(step, levels)
        return levels[step.grid_index] > self.threshold
