"""DiffIER: iterative error reduction at every inference step (arXiv 2508.13628).

The paper's code is not public, and we know for certain only the claims of its abstract: the error that a trajectory
accumulates between training and inference is reduced at each step, without training. This is our reading of it. In
training, the target of the network is the pair (x0, eps) that its input was made from. At inference the sampler makes
its next input x_s(p) from the pair that its prediction p implies. The error of the step is therefore the training loss
there, `||D(x_s(p), s) - target_s(p)||^2 / dim`, with D the guided prediction and target_s the target of that pair (p
itself for eps, x0 and velocity).

The iteration moves p towards D(x_s(p), s). Its fixed point is the implicit (backward) step of the sampler. One
iteration with `step_size` 1/2 averages the slopes at both ends: for first-order samplers that is Heun's step.
"""

import math

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import per_sample, widened
from ..core.differentiable import differentiable
from ..core.next_sample import has_next, next_index, next_level, next_step, next_target, step_error, training_target
from ..core.step import UNCORRECTED, Step
from .manifold_projection import leading_through, projected


OBJECTIVES = ("pair", "renoise", "gradient", "manifold")


def reduced(prediction: torch.Tensor, target: torch.Tensor, found: torch.Tensor, step_size: float) -> torch.Tensor:
    """`prediction - step_size * (target - found)`, one iteration of the objective "pair".

    With G the map from p to D(x_s(p), s), L its Lipschitz constant (that of D in the sample, times |d x_s / d p|: for
    flow models |s - t|), and target = p, the residual r = p - G(p) obeys `||r'|| <= (|1 - step_size| + step_size * L)
    * ||r||`. So the error falls in every iteration for L < 1 and `0 < step_size < 2 / (1 + L)`. Where the Jacobian of G
    is symmetric with eigenvalues in [-L, l], l < 1 (exact flow and eps predictions at one level, and their guided
    combinations), `0 < step_size < 2 / (1 + L)` is enough, whatever L: strong guidance and long steps make L large, and
    so need a small step_size.

    Args:
        prediction: (B, ...), what the sampler would use.
        target: (B, ...), what training asks for at the next sample; see `trial.next_target`.
        found: (B, ...), the guided prediction there.
        step_size: 0 changes nothing, 1 puts what was found in place of the prediction.

    Returns:
        (B, ...) in float32 (float64 for float64).
    """
    return widened(prediction) - step_size * (widened(target) - widened(found))


class DiffIER(Callback):
    """Reduces the error of each step by iteration, at one evaluation an iteration (see `reduced`).

    It iterates what stands before it in the list, whatever that is, and correctors belong before it; `Trace` after it.
    At the last step, whose next sample is clean, and at the predicting evaluations of Heun samplers, it does nothing.
    So N steps cost N + iterations * (N - 1) evaluations: 9 for 5 steps and one iteration.

    With `reuse` the last evaluation, made at x_s(p) before its last change, stands for the pipeline's own at the next
    step, which is then not made: N steps cost 1 + iterations * (N - 1), as many as plain sampling for one iteration.
    That is done for FlowMatchEuler (not stochastic), DDIM (eta 0) and EulerDiscrete (no churn), where the pipeline does
    not post-process its combination, and with networks that are not compiled; elsewhere it evaluates as always. What
    is reused is the network's two predictions, so what stands before it combines them at the new sample.

    What a pipeline does to its combination after the callbacks (see `attach`) is not part of the error.

    Notes for `Trace`: `trial_error` (B,), the step's error before the first iteration.

    Neutral: `step_size=0`.

    Args:
        iterations: at least 1.
        step_size: see `reduced`; 0 only measures, and leaves every sample as it is, to the last bit.
        objective: what is made smaller, and how:

            - "pair", as above.
            - "gradient": the same error by its gradient, through the network: `p <- p - step_size * gradient` of half
              the sum of squares, which is `(d(target - D) / dp)^T (target - D)`. It falls for any small enough
              step_size, also where "pair" does not. An iteration takes an evaluation and its backward pass, about two
              more in time: blocks are computed again in the backward pass, in networks of diffusers that can, so that
              memory holds the activations of one. A callback that detaches is taken as a constant.
            - "renoise": the training loss on fresh noise around the estimate,
              `||D(alpha_s x0 + sigma_s noise, s) - target(x0, noise)||^2 / dim` with x0 that of p, by the gradient in
              x0 that leaves out the network's Jacobian (as score distillation does, arXiv 2209.14988):
              `x0 <- x0 - step_size * (x0 - x0 found there)`. All samples of a batch get the same noise, so that a
              result does not depend on the batch.
            - "manifold": the difference of the conditional and the unconditional prediction at the step's own level,
              by the fixed-point iteration of CFG-MP (arXiv 2601.21892; see `ManifoldProjection`), of whose moves
              step_size is the share that is made: the paper takes 3 iterations, step_size 1, and the steps of flows
              with t > 0.6. It costs 2 * iterations evaluations per step, and takes no `tolerance`.
        tolerance: None, or stop the batch's iterations once the mean error has fallen by less than this fraction
            (0 stops when it rises); a sample whose error rose goes back to before. It compares with the iteration
            before, so with a single one it does nothing. It waits for the device in every iteration, and makes a
            sample depend on its batch.
        reuse: see above; other objectives than "pair" never do.
        seed: of the noise of "renoise".
        start, stop: see `Callback`.

    Raises:
        ValueError: an argument out of range; or, when called, a sampler without a next sample (see `trial.has_next`),
            or, for "gradient", a network that lets no gradient through, as in `torch.inference_mode()`.
    """

    words = {"objective": OBJECTIVES}  # noqa: RUF012 (see Callback)

    @register_to_config
    def __init__(
        self,
        iterations: int = 1,
        step_size: float = 0.5,
        objective: str = "pair",
        tolerance: float | None = None,
        reuse: bool = False,
        seed: int = 0,
        start: float = 0.0,
        stop: float = 1.0,
    ):
        super().__init__(start, stop)
        if not (isinstance(iterations, int) and iterations >= 1):
            raise ValueError(f"iterations must be a whole number of at least 1, got {iterations!r}")
        if not (math.isfinite(step_size) and step_size >= 0):
            raise ValueError(f"step_size must be finite and at least 0, got {step_size}")
        if objective not in OBJECTIVES:
            raise ValueError(f"objective must be one of {', '.join(OBJECTIVES)}, got {objective!r}")
        if not (tolerance is None or 0 <= tolerance < 1):
            raise ValueError(f"tolerance must be None or in [0, 1), got {tolerance}")
        if objective == "manifold" and tolerance is not None:
            raise ValueError("tolerance compares errors that objective='manifold' does not find; leave it None")
        self.iterations, self.step_size, self.objective = iterations, step_size, objective
        self.tolerance, self.reuse, self.seed = tolerance, reuse, seed

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        prediction = proceed(step)
        step.notes[UNCORRECTED] = prediction
        if not has_next(step):
            return prediction
        if self.objective == "manifold":
            return self._manifold(step, proceed, prediction)
        iterate = {"pair": self._pair, "renoise": self._renoise, "gradient": self._gradient}[self.objective]
        current = before = widened(prediction)
        previous = None
        for iteration in range(self.iterations):
            trial, error, changed = iterate(step, proceed, current, iteration)
            step.notes.setdefault("trial_error", error)
            if (
                previous is not None
                and self.tolerance is not None
                and not bool(error.mean() < (1 - self.tolerance) * previous.mean())
            ):
                current = torch.where(per_sample(error <= previous, current), current, before)
                break
            before, current, previous = current, changed, error
        if self.reuse and self.objective == "pair" and not step.elsewhere:
            step.denoiser.reuse(trial)
        return current.to(prediction.dtype) if self.step_size else prediction

    def _pair(
        self, step: Step, proceed: Proceed, current: torch.Tensor, iteration: int
    ) -> tuple[Step, torch.Tensor, torch.Tensor]:
        """The step at the next sample, the error (B,) there, and `current` after one iteration."""
        trial, target = next_step(step, current), next_target(step, current)
        found = proceed(trial)
        return trial, step_error(found, target), reduced(current, target, found, self.step_size)

    def _gradient(
        self, step: Step, proceed: Proceed, current: torch.Tensor, iteration: int
    ) -> tuple[Step, torch.Tensor, torch.Tensor]:
        """As `_pair`, by the gradient of the error through the network."""
        network = step.denoiser.module
        refusal = (
            f"objective='gradient' differentiates {type(network).__name__}, and no gradient flows from its prediction "
            "to its sample; call the pipeline, and make what it is given, outside of torch.inference_mode() "
            "(torch.no_grad() is fine), or take objective='pair'"
        )
        try:
            with differentiable(network):
                p = current.detach().requires_grad_()
                trial, target = next_step(step, p), widened(next_target(step, p))
                found = widened(proceed(trial))
                if not found.requires_grad:
                    raise ValueError(refusal)
                gradient = torch.autograd.grad(target - found, p, (target - found).detach())[0]
        except RuntimeError as error:
            if "nference tensor" not in str(error):
                raise
            raise ValueError(refusal) from error
        return trial, step_error(found.detach(), target.detach()), current - self.step_size * gradient

    def _manifold(self, step: Step, proceed: Proceed, prediction: torch.Tensor) -> torch.Tensor:
        if step.truncated:
            return prediction
        sample, step.notes["trial_error"] = projected(step, self.iterations, damping=self.step_size)
        return leading_through(step, proceed, sample).to(prediction.dtype) if self.step_size else prediction

    def _renoise(
        self, step: Step, proceed: Proceed, current: torch.Tensor, iteration: int
    ) -> tuple[Step, torch.Tensor, torch.Tensor]:
        """As `_pair`, at the estimate under fresh noise."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step.index) * 1_009 + iteration)
        noise = torch.randn(step.sample.shape[1:], generator=generator).to(step.sample.device, non_blocking=True)
        x0, (alpha, sigma) = step.to_x0(current), next_level(step)
        noise = noise.expand_as(x0)
        trial = step.at((alpha * x0 + sigma * noise).to(step.sample.dtype), index=next_index(step))
        found = proceed(trial)
        error = step_error(found, training_target(x0, noise, (alpha, sigma), step.prediction_type))
        return trial, error, step.from_x0(x0 + self.step_size * (trial.to_x0(found) - x0))
