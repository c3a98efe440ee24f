"""What a callback sees: one evaluation of the denoiser, immutable, and the way to evaluate it elsewhere."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol

import torch

from .combine import classifier_free_guidance, effective_weight
from .levels import Level
from .parameterization import from_x0, to_x0
from .protocols import Scheduler


#: The note under which a corrector (`DiffIER`) keeps the prediction that it corrects; `Trace` measures the error of it.
UNCORRECTED = "_uncorrected"


class MissingUnconditionalError(RuntimeError):
    """A callback asked for the unconditional prediction, and the pipeline ran without that pass."""


class Denoiser(Protocol):
    """The network with the conditioning of the current call, as a `Step` needs it; `attach` provides it."""

    def level(self, timestep: torch.Tensor | None, index: int | None) -> Level:
        """(alpha, sigma) at a position of the sampler's grid, or at any training time when `index` is None."""

    def predict(
        self, sample: torch.Tensor, timestep: torch.Tensor, level: Callable[[], Level]
    ) -> "Mapping[str, torch.Tensor] | tuple[torch.Tensor, torch.Tensor | None]":
        """The predictions at another sample and time, by name, or as (cond, uncond); one more evaluation."""

    def with_network(self, network: torch.nn.Module) -> "Denoiser":
        """The same with `network` in the place of each of the pipeline's own; see `Step.with_network`."""

    def number_of(self, index: int) -> int:
        """Which of the user's steps position `index` of the sampler's grid is, counted as `Step.index`."""

    def grid(self, index: int) -> torch.Tensor:
        """The timestep at position `index` of the sampler's grid."""

    def conditioning(self, name: str) -> torch.Tensor:
        """What the network was given as argument `name` in this step, for the conditional prediction alone."""

    def component(self, name: str) -> Any:
        """The pipeline's component `name` (its VAE, its scheduler), or None where it has none."""

    @property
    def scheduler(self) -> Scheduler:
        """The pipeline's scheduler, to be read only."""

    def reuse(self, step: "Step") -> bool:
        """Let the latest evaluation, made for `step`, replace the pipeline's own in its next step, to save that one.
        Returns False and does nothing if the sampler would not land on the sample of `trial.next_step`, or if it was
        not the latest evaluation.
        """

    def learned_variance(self, step: "Step") -> torch.Tensor | None:
        """(B, ...) what the network returned next to the conditional prediction of `step`, where that is as large: its
        variance. None without it, or if the network was evaluated elsewhere after `step`."""

    @property
    def module(self) -> torch.nn.Module:
        """The network itself (of several, the one of this step)."""

    @property
    def missing(self) -> str:
        """What to say when there is no unconditional prediction: the argument to set."""


class Pass:
    """Identity of one pass over a sampler's grid, to keep something for each."""


@dataclass(frozen=True, eq=False)
class Step:
    """One evaluation of the denoiser, as the scheduler's `step` is about to use it. B samples, any trailing shape.

    Attributes:
        sample: (B, ...) the noisy sample, `alpha * x0 + sigma * eps`, in the scheduler's own scaling.
        timestep: the scheduler's timestep, a 0-d tensor.
        index, total: which of the user's steps this evaluation belongs to, from 0, and how many there will be. A
            sampler that evaluates the network twice a step gives both evaluations at one noise level one index.
        prediction_type: the space of all predictions: "epsilon", "v_prediction", "sample" (x0) or "flow_prediction"
            (velocity eps - x0).
        denoiser: the network, to evaluate it elsewhere.
        predicted: the predictions by name, or (cond, uncond), where uncond is None without that pass; or None to
            evaluate the network when first asked. See `predictions`.
        combined: the pipeline's own combination of the two, or None where it made none, or changed it afterwards (see
            `PostProcessing`); see `pipeline_prediction`.
        weight: of that combination where the pipeline tells it, or what finds it when asked; see `pipeline_weight`.
        grid_index: position on the sampler's grid, or None when off the grid.
        first: position on the grid at which the pipeline's call began.
        run: identity of the pass over the grid.
        truncated: the pipeline left out the unconditional pass in this step alone (truncated guidance).
        elsewhere: made by `at`: not the evaluation that the pipeline is about to use.
        ahead: how far along the sampler's grid `at` went from there, so that `index + ahead` is the position of this
            evaluation, in the user's steps; 0 off the grid.
        notes: values that a callback wants traced, name -> (B,) tensor; see `Trace`. Names with a leading underscore
            are between callbacks, and not traced.
        handled: what callbacks did in place of the scheduler, which then leaves it out: "bounds", the clipping or
            thresholding of the denoised estimate.
    """

    sample: torch.Tensor
    timestep: torch.Tensor
    index: int
    total: int
    prediction_type: str
    denoiser: Denoiser
    predicted: Mapping[str, torch.Tensor] | tuple[torch.Tensor, torch.Tensor | None] | None = None
    combined: torch.Tensor | None = None
    weight: float | torch.Tensor | Callable[[], float | torch.Tensor] | None = None
    grid_index: int | None = None
    first: int = 0
    run: Pass = field(default_factory=Pass)
    truncated: bool = False
    elsewhere: bool = False
    ahead: int = 0
    notes: dict[str, torch.Tensor] = field(default_factory=dict)
    handled: set[str] = field(default_factory=set)

    @cached_property
    def predictions(self) -> Mapping[str, torch.Tensor]:
        """All predictions (B, ...) of this evaluation by name, in the space of `prediction_type`: "cond", "uncond"
        where the pipeline ran that pass, and whatever else its family names (see `Family.names`)."""
        found = self.predicted
        if found is None:
            found = self.denoiser.predict(self.sample, self.timestep, lambda: self._level)
        if isinstance(found, Mapping):
            return found
        return {name: value for name, value in zip(("cond", "uncond"), found, strict=True) if value is not None}

    @property
    def cond(self) -> torch.Tensor:
        """(B, ...) conditional prediction, in the space of `prediction_type`, in the network's dtype."""
        return self.predictions["cond"]

    @property
    def uncond(self) -> torch.Tensor:
        """(B, ...) unconditional prediction.

        Raises:
            MissingUnconditionalError: the pipeline ran without that pass; the message names the argument to set.
        """
        if "uncond" not in self.predictions:
            raise MissingUnconditionalError(self.denoiser.missing)
        return self.predictions["uncond"]

    @property
    def has_unconditional(self) -> bool:
        """Whether the unconditional pass ran in this step."""
        return "uncond" in self.predictions

    @cached_property
    def _level(self) -> Level:
        return self.denoiser.level(self.timestep, self.grid_index)

    @property
    def alpha(self) -> torch.Tensor:
        """0-d float32. Raises ValueError when the scheduler is not understood."""
        return self._level[0]

    @property
    def sigma(self) -> torch.Tensor:
        """0-d float32. Raises ValueError when the scheduler is not understood."""
        return self._level[1]

    @cached_property
    def pipeline_weight(self) -> float | torch.Tensor:
        """The weight w of the pipeline's own `uncond + w * (cond - uncond)`.

        Where the pipeline keeps it in a local variable it is recovered from `combined`, per sample, in float32:
        `<combined - uncond, cond - uncond> / ||cond - uncond||^2` (1 where the two predictions are equal).
        """
        if self.weight is not None:
            return self.weight() if callable(self.weight) else self.weight
        if self.combined is None:
            raise ValueError("the pipeline's own weight is unknown: this step has neither `weight` nor `combined`")
        return effective_weight(self.combined, self.cond, self.uncond)

    def pipeline_prediction(self) -> torch.Tensor:
        """What the pipeline itself would use here, before its post-processing: its combination, or the same formula
        at another point. The same tensor each time."""
        return self._own

    @cached_property
    def _own(self) -> torch.Tensor:
        if self.combined is not None:
            return self.combined
        if not self.has_unconditional:
            return self.cond
        return classifier_free_guidance(self.cond, self.uncond, self.pipeline_weight)

    def is_own(self, prediction: torch.Tensor) -> bool:
        """Whether `prediction` is the very tensor that `pipeline_prediction` gave."""
        return prediction is self.__dict__.get("_own")  # not made for this question

    def conditioning(self, name: str) -> torch.Tensor:
        """(B, ...) what the network was given as argument `name` (`class_labels`, ...) for the conditional prediction.

        Raises:
            ValueError: the network has no such argument in this step; the message lists those that it has.
        """
        return self.denoiser.conditioning(name)

    def denoise(self, sample: torch.Tensor, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(cond, uncond) at another sample (B, ...) and training time, with this call's conditioning."""
        predictions = self.at(sample, timestep=timestep).predictions
        return predictions["cond"], predictions.get("uncond")

    def at(self, sample: torch.Tensor, *, index: int | None = None, timestep: torch.Tensor | None = None) -> "Step":
        """The step at another sample (B, ...) and a position of the sampler's grid, or any training time.

        The network is evaluated only when `cond` or `uncond` is read. `proceed` accepts the result.

        Raises:
            ValueError: not exactly one of `index` and `timestep`, or a sample of another shape.
        """
        if sample.shape != self.sample.shape:
            raise ValueError(f"sample has shape {tuple(sample.shape)}, expected {tuple(self.sample.shape)}")
        if timestep is None and index is not None:
            timestep = self.denoiser.grid(index)
        elif timestep is None or index is not None:
            raise ValueError("give either index (a position of the sampler's grid) or timestep (any training time)")
        elif timestep is self.timestep:
            index = self.grid_index  # where a sampler warps its grid, the position tells the level better than the time
        return replace(
            self,
            sample=sample,
            timestep=torch.as_tensor(timestep),
            grid_index=index,
            predicted=None,
            combined=None,
            weight=self.pipeline_weight if self.has_unconditional else None,
            elsewhere=True,
            ahead=0 if index is None or self.grid_index is None else self.denoiser.number_of(index) - self.index,
            notes={},
            handled=set(),
        )

    def with_network(self, network: torch.nn.Module) -> "Step":
        """This step with another network in the place of the pipeline's own, which gets what that one was given: the
        sample, the timestep, the conditioning. It is evaluated only when a prediction is read. A network of another
        device, or of other inputs, fails as it does when it is called itself; of other outputs, gives their shape.
        """
        return replace(
            self,
            denoiser=self.denoiser.with_network(network),
            predicted=None,
            combined=None,
            weight=self.pipeline_weight if self.has_unconditional else None,
            elsewhere=True,
            notes={},
            handled=set(),
        )

    def to_x0(self, prediction: torch.Tensor) -> torch.Tensor:
        """The denoised estimate (B, ...) that `prediction` implies, in float32."""
        return to_x0(prediction, self.sample, self.alpha, self.sigma, self.prediction_type)

    def to_eps(self, prediction: torch.Tensor) -> torch.Tensor:
        """The noise (B, ...) that `prediction` implies, in float32. Infinite where sigma is 0."""
        if self.prediction_type == "epsilon":
            return prediction.float()
        return (self.sample.float() - self.alpha * self.to_x0(prediction)) / self.sigma

    def from_x0(self, x0: torch.Tensor) -> torch.Tensor:
        """The prediction, in the network's parameterization and in float32, whose denoised estimate is `x0`."""
        return from_x0(x0, self.sample, self.alpha, self.sigma, self.prediction_type)
