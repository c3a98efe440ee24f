"""What runs in place of the scheduler's `step`: the callbacks' answer is stepped, not the pipeline's combination."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from ..core.bounds import unbounded
from ..core.protocols import Scheduler
from .arguments import versions
from .denoiser import StepDenoiser
from .facts import Facts
from .guiding import Guiding
from .passes import Answer, Passes
from .recorder import Recorder, by_name, names_of
from .run import Run
from .skip_plan import SkipPlan


_STEP = ("model_output", "timestep", "sample")  # what the `step` of every scheduler begins with


class Stepping:
    """Rebuilds the predictions from the calls that were recorded, asks the callbacks, and calls the scheduler's own
    `step` with their answer. The pipeline's own combination is ignored unless a callback asks for it."""

    def __init__(self, scheduler: Scheduler, facts: Facts, guiding: Guiding, recorder: Recorder, passes: Passes):
        names = names_of(scheduler.step)
        self._names = names if set(_STEP) <= set(names) else _STEP  # somebody's wrapper may show none
        self._scheduler, self._facts, self._guiding = scheduler, facts, guiding
        self._recorder, self._passes = recorder, passes

    def step(self, run: Run, plan: SkipPlan, original: Callable, args: tuple, kwargs: dict) -> Any:
        """What `original`, the scheduler's `step`, returns for the answer of the callbacks.

        Args:
            run: the run in hand.
            plan: its passes that nobody reads.
            args, kwargs: as the pipeline calls `step`.
        """
        given = by_name(self._names, args, kwargs)
        run.advance(given["timestep"])
        observed = self._facts.observe(run, self._recorder, given)
        family = self._facts.known
        denoiser = StepDenoiser(observed, family, run, self._recorder, given)
        try:
            with self._recorder.pause():  # a callback may call the network
                guided = self._guiding.guide(denoiser, plan if self._passes.skipped else None)
            prediction = family.finish(guided.prediction, observed)
            with unbounded(self._scheduler) if "bounds" in guided.handled else nullcontext():
                if "model_output" in kwargs:
                    result = original(*args, **kwargs | {"model_output": prediction})
                else:
                    result = original(prediction, *args[1:], **kwargs)
        finally:
            run.made += denoiser.made
            denoiser.close()
            calls = len(self._recorder.calls)
            self._recorder.clear()
            self._passes.clear()
        if denoiser.reused:
            self._passes.answer(_answers(denoiser, result))
        elif skip := plan.coming(observed, family, calls, guided.post_processed):
            self._passes.skip(skip)
        return result


def _answers(denoiser: StepDenoiser, result: Any) -> list[Answer]:
    """What a callback found stands for the pipeline's calls at the sample to which the sampler went."""
    sample = result[0] if isinstance(result, tuple) else result.prev_sample
    answers = []
    for call, output in denoiser.reused:
        expected = denoiser.expected(call, sample, denoiser.run.grid_index + 1)
        answers.append(Answer(call, expected, output, versions(expected)))
    return answers
