"""Attaching callbacks to a pipeline that knows nothing of them.

A forward hook on the denoiser records what it was called with and what it returned; the scheduler instance's `step` is
replaced by one that rebuilds the two predictions, asks the callbacks, and calls the original with their answer. The
pipeline's own combination is ignored unless a callback asks for it. Everything is undone on exit.
"""

import functools
from collections.abc import Callable
from contextlib import nullcontext

import torch

from ..core.bounds import unbounded
from ..core.callback import as_list, chain
from ..core.levels import Level, grid_index, level_at_index, level_at_timestep, network_input
from ..core.next_sample import repeats
from ..core.step import Step
from .families import Evaluation, Family, PostProcessing, find_family
from .recorder import Recorder, argument_names, by_name
from .replacement import Replacement


_STEP = ("model_output", "timestep", "sample")  # what the `step` of every scheduler begins with


def attach(pipe, guidance, *, check_finite: bool = False, post_process: bool = True) -> "Attachment":
    """Attach `guidance` to `pipe` until the `with` block ends, or until `detach()` is called.

    Args:
        pipe: a diffusers pipeline of a known family (see `register_family`); its code is not touched.
        guidance: a callback, or several, applied in order: the first is nearest to the network.
        check_finite: stop with an error at the first prediction that is not finite. It waits for the device at every
            step, so it is for finding a fault, not for production.
        post_process: whether what the pipeline does to its combination (`guidance_rescale`, QwenImage's norm, SD3's
            skip layers, ...; see `Family.post_processing`) is done to that of the callbacks too. It is done once, after
            the last callback: callbacks see and combine predictions before it. What the callbacks leave unchanged is
            the pipeline's own output, to the bit, in any case.

    Returns:
        The attachment, to be used as a context manager. It serves any number of calls of the pipeline.

    Raises:
        ValueError: the pipeline's family is unknown.
        TypeError: `guidance` is not callable or a list of callables.
        RuntimeError: something is attached to the pipeline (or to another one that shares its scheduler) already.
    """
    return Attachment(pipe, as_list(guidance), check_finite, post_process)


class Attachment:
    """A pipeline with callbacks attached; made by `attach`. Also the `Denoiser` of the steps that it makes.

    Attributes:
        evaluations: of the network in this run, on the callbacks' own account, less those of its own that the pipeline
            was spared (see `reuse`); both predictions together are one.
    """

    def __init__(self, pipe, callbacks: list, check_finite: bool = False, post_process: bool = True):
        self.pipe, self.callbacks = pipe, callbacks
        self.check_finite, self.post_process = check_finite, post_process
        self.family: Family = find_family(pipe)
        self.scheduler = pipe.scheduler
        if isinstance(self.scheduler.__dict__.get("step"), Replacement):
            raise RuntimeError(
                f"guidance is attached to this {type(pipe).__name__} already; leave that `with` block (or call "
                "detach()) first, or pass all callbacks in one list"
            )
        self._proceed = chain(callbacks)
        names = argument_names(self.scheduler.step)
        self._step_names = names if set(_STEP) <= set(names) else _STEP  # somebody's wrapper may show none
        self._recorder = Recorder(pipe, self.family)
        self._reset()
        self._undo = [
            self._recorder.detach,
            Replacement(self.scheduler, "step", self._step).undo,
            Replacement(self.scheduler, "set_timesteps", self._set_timesteps).undo,
        ]

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(self, *_) -> None:
        self.detach()

    def detach(self) -> None:
        """Restore the pipeline exactly. Detaching twice does nothing."""
        while self._undo:
            self._undo.pop()()
        self._reset()

    @property
    def evaluations(self) -> int:
        return self._made - self._recorder.spared

    # What a `Step` asks of its denoiser.

    @property
    def missing(self) -> str:
        return (
            f"this callback needs the unconditional prediction, and {type(self.pipe).__name__} ran without that pass; "
            f"set {self.family.enable}"
        )

    @property
    def module(self) -> torch.nn.Module:
        return self._recorder.calls[0].module

    def conditioning(self, name: str) -> torch.Tensor:
        return self._recorder.conditioning(name, self._guided)

    def component(self, name: str) -> object | None:
        return getattr(self.pipe, name, None)

    def level(self, timestep: torch.Tensor, index: int | None) -> Level:
        return level_at_timestep(self.scheduler, timestep) if index is None else level_at_index(self.scheduler, index)

    def grid(self, index: int) -> torch.Tensor:
        return self.scheduler.timesteps[index]

    def predict(
        self, sample: torch.Tensor, timestep: torch.Tensor, level: Callable[[], Level]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self._output is None:
            raise RuntimeError("the network can be evaluated only while the pipeline is in the step that was given")
        self._recorder.drop_answers()  # of an evaluation that is the latest no more
        outputs = self._recorder.again(network_input(self.scheduler, sample, level), timestep, self._sample)
        self._made += 1
        self._latest = (sample, self._recorder.latest)
        return self._recorder.halves(outputs, self._output, self._guided)

    def reuse(self, step: Step) -> bool:
        if self._latest is None or self._latest[0] is not step.sample or self._post_processing:
            return False
        return repeats(self.scheduler, self._arguments) and self._recorder.answer(self._latest[1])

    def learned_variance(self, step: Step) -> torch.Tensor | None:
        if not step.elsewhere:
            outputs = [call.output for call in self._recorder.calls]
        elif self._latest is not None and self._latest[0] is step.sample:
            outputs = [output[0] for _, output in self._latest[1]]
        else:
            return None
        return self._recorder.variance(outputs, step.sample, self._guided)

    # What the pipeline calls.

    def _reset(self) -> None:
        self._recorder.reset()
        self._index = 0
        self._sample = self._output = None  # what the pipeline gave the scheduler in the current step
        self._guided: bool | None = None  # in the current step
        self._ever_guided = False  # in this run
        self._made = 0
        self._latest = None
        self._arguments: dict = {}
        self._handled: set[str] = set()  # see `Step.handled`
        self._post_processing = False  # in the current step, so that the sampler uses another prediction

    def _set_timesteps(self, original: Callable, *args, **kwargs):
        self._reset()  # every pipeline does this first, once a call
        return original(*args, **kwargs)

    def _step(self, original: Callable, *args, **kwargs):
        given = by_name(self._step_names, args, kwargs)
        output, self._arguments = given["model_output"], given
        self._recorder.drop_answers()  # those of the step before that the pipeline did not ask for
        with self._recorder.pause():  # a callback may call the network
            prediction = self._guide(output, given["timestep"], given["sample"])
        # The pipeline's own dtype: a float32 result would raise, or turn the latents to float32.
        prediction = prediction.to(output.dtype)
        prediction = torch.cat([prediction, prediction]) if self._doubled else prediction
        with unbounded(self.scheduler) if "bounds" in self._handled else nullcontext():
            if "model_output" in kwargs:
                result = original(*args, **kwargs | {"model_output": prediction})
            else:
                result = original(prediction, *args[1:], **kwargs)
        self._index += 1
        self._sample = self._output = self._latest = None
        self._arguments = {}
        self._recorder.clear()
        return result

    def _guide(self, output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        self._guided = self._is_guided(len(sample))
        self._ever_guided |= self._guided
        if self._doubled:
            sample, output = sample.chunk(2)[0], output.chunk(2)[0]
        self._sample, self._output = sample, output
        calls, weight, post_processing = self._recorder.calls, None, None
        cond, uncond = self._recorder.halves([call.output for call in calls], output, self._guided)
        if self._guided:
            evaluation = Evaluation(self.pipe, calls[0].module, cond, uncond, output, self._recorder.aside)
            weight, post_processing = self._weight(evaluation), self._active_post_processing(evaluation)
        self._post_processing = self.post_process and post_processing is not None
        steps = len(self.scheduler.timesteps)
        total = getattr(self.pipe, "_num_timesteps", None) or steps
        step = Step(
            sample=sample,
            timestep=timestep,
            index=self._index,
            total=total,
            prediction_type=self._prediction_type(),
            denoiser=self,
            predicted=(cond, uncond),
            combined=None if post_processing else output,
            weight=weight,
            # Image-to-image pipelines run the end of the grid only.
            grid_index=grid_index(self.scheduler, timestep, default=steps - total + self._index),
            truncated=self._ever_guided and not self._guided,
        )
        self._handled = step.handled
        prediction = self._proceed(step)
        if post_processing and step.is_own(prediction):
            prediction = output
        elif post_processing and self.post_process:
            prediction = post_processing.apply(prediction, evaluation)
        if self.check_finite and not bool(torch.isfinite(prediction).all()):
            source = "the network's own" if not bool(torch.isfinite(cond).all()) else "the callbacks'"
            raise FloatingPointError(f"{source} prediction is not finite at step {step.index} of {step.total}")
        return prediction

    def _is_guided(self, batch: int) -> bool:
        calls, family = self._recorder.calls, self.family
        if not calls:
            raise RuntimeError(
                f"the scheduler's step ran, but {type(self.pipe).__name__}.{family.denoiser} was not called "
                "before it; was it replaced while guidance was attached?"
            )
        if family.guided is not None:
            return family.guided(calls[0]) if self._guided is None else self._guided
        if family.calls == 2:
            return len(calls) == 2
        return len(calls[0].arguments[family.sample]) == 2 * batch

    def _active_post_processing(self, evaluation: Evaluation) -> PostProcessing | None:
        post_processing = self.family.post_processing
        return post_processing if post_processing and post_processing.active(evaluation) else None

    def _weight(self, evaluation: Evaluation) -> float | Callable[[], float | torch.Tensor] | None:
        weight = self.family.weight
        if callable(weight):
            return functools.partial(weight, evaluation)  # found only where a callback asks
        return weight and getattr(self.pipe, weight, None)

    @property
    def _doubled(self) -> bool:
        return self.family.doubled and bool(self._guided)

    def _prediction_type(self) -> str:
        return self.family.prediction_type or self.scheduler.config.get("prediction_type") or "flow_prediction"
