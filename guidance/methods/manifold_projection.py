"""CFG-MP: classifier-free guidance of flow models with a projection onto the manifold where both predictions agree
(arXiv 2601.21892, ICML 2026).

Before a guided step the sample goes half a step back along the unconditional and half a step forth along the
conditional velocity, again and again: the fixed point is where the two undo each other, so the guidance direction is
small there. Anderson mixing speeds the iteration up (the paper's CFG-MP+).
"""

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import per_sample, widened
from ..core.memory import Remembers
from ..core.next_sample import end_level
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
    # By QR: normal equations would square a condition that is bad near the fixed point, and `lstsq` waits on a GPU.
    q, r = torch.linalg.qr(torch.cat([change, damping], dim=1))
    found = torch.linalg.solve_triangular(r, q[:, : last.shape[1]].mT @ last[:, :, None], upper=True)[:, :, 0]
    for k in range(size):
        target = target + per_sample(found[:, k], target) * (points[k] + residuals[k] - points[-1] - residuals[-1])
    return target


class ManifoldProjection(Remembers, Callback):
    """Moves the sample to where both predictions agree before a guided step (CFG-MP, for flow models).

    It acts around what stands before it in the list: `[CFG(4.5), ManifoldProjection()]`.
    With z = x at first, h = s - t and both velocities at the time t of the step, it iterates
    `z~ = z - h / 2 * v_u(z)`, `z <- z~ + h / 2 * v_c(z~)` (by `anderson_mixing`), and then guides at z: the prediction
    returned, `v(z) + (z - x) / h`, leads where a step from z would. Each iteration evaluates the network twice, minus
    one in the first, and the guided prediction at z once more: 2 * iterations evaluations a step more, of which the
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
        length = end_level(step)[1] - step.sigma
        sample = widened(step.sample)
        found = self._projected(step, sample, length / 2)
        guided = widened(proceed(self._at(step, found)))
        return (guided + (found - sample) / length).to(step.cond.dtype)

    def _projected(self, step: Step, sample: torch.Tensor, half: torch.Tensor) -> torch.Tensor:
        points: list[torch.Tensor] = []
        residuals: list[torch.Tensor] = []
        current = sample
        for _ in range(self.iterations):
            uncond = self._at(step, current).uncond if points else step.uncond
            back = current - half * widened(uncond)
            points.append(current)
            residuals.append(back + half * widened(self._at(step, back).cond) - current)
            points, residuals = points[-self.window - 1 :], residuals[-self.window - 1 :]
            current = anderson_mixing(points, residuals, self.ridge)
        return current

    def _at(self, step: Step, sample: torch.Tensor) -> Step:
        return step.at(sample.to(step.sample.dtype), timestep=step.timestep)

    def _is_noisy(self, step: Step) -> bool:
        if step.grid_index is None:
            return False
        levels = self.recalled(step)
        if levels is None:
            grid = range(len(step.denoiser.scheduler.timesteps))
            levels = torch.stack([step.denoiser.level(step.timestep, k)[1] for k in grid]).tolist()
        self.remember(step, levels)
        return levels[step.grid_index] > self.threshold
