"""What the callbacks make of one step of a pipeline."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..core.callback import Guide, chain
from ..core.step import Step
from .denoiser import StepDenoiser
from .families import Evaluation, Family, PostProcessing
from .run import Run
from .skip_plan import SkipPlan


Weight = float | Callable[[], float | torch.Tensor]


@dataclass(frozen=True)
class Guided:
    """What is stepped.

    Attributes:
        prediction: as the scheduler is to get it, except for what `Family.finish` adds.
        handled: what a callback took over from the scheduler; see `Step.handled`.
        post_processed: whether the pipeline changed its combination.
    """

    prediction: torch.Tensor
    handled: set[str]
    post_processed: bool


class Guiding:
    """Asks `callbacks`; for the options see `attach`."""

    def __init__(self, callbacks: list[Guide], post_process: bool, check_finite: bool):
        self._proceed = chain(callbacks)
        self._post_process, self._check_finite = post_process, check_finite

    def guide(self, denoiser: StepDenoiser, left_out: SkipPlan | None) -> Guided:
        """The answer of the callbacks in the step of `denoiser`.

        Args:
            left_out: by which the unconditional pass of this step was left out; None where all ran.

        Raises:
            FloatingPointError: a prediction is not finite, where that is checked.
        """
        observed, family, run = denoiser.observed, denoiser.family, denoiser.run
        guided = family.is_guided(observed)
        if family.guided is not None:
            run.found["guided"] = guided
        run.guided |= guided
        output: Any  # None where the pipeline made no combination
        output, sample = family.stepped(observed)
        predictions = family.named([call.output for call in observed.calls], observed, sample)
        if left_out is not None and left_out.holds():
            guided, predictions, output = False, {"cond": predictions["cond"]}, predictions["cond"]
        elif left_out is not None:
            predictions, output = dict(denoiser.predict(sample, observed.timestep, run.level)), None
        weight = evaluation = post_processing = None
        if guided:
            both = predictions["cond"], predictions["uncond"]
            evaluation = Evaluation(run.pipe, denoiser.module, *both, output, observed.aside)
            weight, post_processing = _weight(family, evaluation), _active_post_processing(family, evaluation)
        denoiser.post_processed = self._post_process and post_processing is not None
        step = Step(
            sample=sample,
            timestep=observed.timestep,
            index=run.index,
            total=run.total,
            prediction_type=family.prediction_type or run.prediction_type,
            denoiser=denoiser,
            predicted=predictions,
            combined=None if post_processing else output,
            weight=weight,
            grid_index=run.grid_index,
            first=run.first,
            run=run.identity,
            truncated=not guided and (run.guided or _may_come(run)),
        )
        prediction = self._proceed(step)
        if post_processing and step.is_own(prediction):
            prediction = output
        elif denoiser.post_processed and post_processing and evaluation:
            prediction = post_processing.apply(prediction, evaluation)
        if self._check_finite:
            _check_finite(prediction, step)
        return Guided(prediction, step.handled, post_processing is not None)


def _check_finite(prediction: torch.Tensor, step: Step) -> None:
    if not bool(torch.isfinite(prediction).all()):
        source = "the network's own" if not bool(torch.isfinite(step.cond).all()) else "the callbacks'"
        raise FloatingPointError(f"{source} prediction is not finite at step {step.index} of {step.total}")


def _may_come(run: Run) -> bool:
    """Whether the unconditional pass may begin later in this run, as far as the pipeline says."""
    return not run.is_last and bool(getattr(run.pipe, "do_classifier_free_guidance", False))


def _active_post_processing(family: Family, evaluation: Evaluation) -> PostProcessing | None:
    post_processing = family.post_processing
    return post_processing if post_processing and post_processing.active(evaluation) else None


def _weight(family: Family, evaluation: Evaluation) -> Weight | None:
    weight = family.weight
    if callable(weight):
        return functools.partial(weight, evaluation)  # found only where a callback asks
    return getattr(evaluation.pipe, weight, None) if weight else None
