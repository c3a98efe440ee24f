"""Attaching callbacks to a pipeline that knows nothing of them.

Hooks on the networks record what the pipeline calls them with and what they return; the scheduler instance's `step` is
replaced by one that rebuilds the predictions, asks the callbacks, and calls the original with their answer. The
pipeline's own combination is ignored unless a callback asks for it. Only the pipeline's own run is touched: who calls
is seen on the stack, so that siblings that share the network or the scheduler run as if nothing were attached.
"""

import functools
import threading
import weakref
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from types import FrameType
from typing import Any

import torch

from ..core.bounds import unbounded
from ..core.callback import Callback, Guide, as_list, chain
from ..core.levels import Level, is_understood, level_at_index, network_input, prediction_type
from ..core.needs import Upcoming, needs_unconditional
from ..core.order import check_order
from ..core.protocols import Pipeline, Scheduler
from ..core.step import Step
from .arguments import versions
from .caches import Isolation
from .caller import own_frame, running
from .denoiser import StepDenoiser
from .establish import as_made_by_hand, establish, of_family
from .families import Call, Evaluation, Family, Observed, PostProcessing, registered_family
from .passes import Answer, Passes
from .recorder import Recorder, by_name, is_compiled, names_of
from .replacement import Replacement
from .run import Run
from .skipping import Skip, is_right, skip_of
from .unstepped import MOST, check_stepped
from .verification import verify as check


_STEP = ("model_output", "timestep", "sample")  # what the `step` of every scheduler begins with
_ATTACHED: "weakref.WeakSet[Attachment]" = weakref.WeakSet()


def attach(
    pipe: Pipeline,
    guidance: Guide | Iterable[Guide],
    *,
    family: Family | None = None,
    verify: bool = True,
    check_finite: bool = False,
    post_process: bool = True,
    skip: bool = True,
) -> "Attachment":
    """Attach `guidance` to `pipe` until the `with` block ends, or until `detach()` is called.

    Args:
        pipe: a diffusers pipeline; its code is not touched.
        guidance: a callback, or several, applied in order: the first is nearest to the network.
        family: how the pipeline calls its network; by default the one that is registered for its class (see
            `register_family`), and without one it is inferred in the first guided step.
        verify: check in the first guided step of a run that the family describes it, with one read of the device.
            What is not described there stops the run with a FamilyError, a ValueError.
        check_finite: stop with an error at the first prediction that is not finite. It waits for the device at every
            step, so it is for finding a fault, not for production.
        post_process: whether what the pipeline does to its combination (`guidance_rescale`, QwenImage's norm, SD3's
            skip layers, ...; see `Family.post_processing`) is done to that of the callbacks too. It is done once, after
            the last callback: callbacks see and combine predictions before it. What the callbacks leave unchanged is
            the pipeline's own output, to the bit, in any case.
        skip: leave out the unconditional pass of steps in which no callback reads it (outside of an interval, weight
            1); `Callback.unconditional` tells. The images are the same except for rounding. Both passes run all the
            same in the first guided step, with a compiled or cached network, with post-processing, with three
            predictions, and without `verify`.

    Returns:
        The attachment, to be used as a context manager. It serves any number of calls of the pipeline, and loops
        written by hand that step the pipeline's scheduler.

    Raises:
        ValueError: the pipeline has no scheduler, or no network, that could be watched; or a callback of the list can
            have no effect, see `check_order`.
        TypeError: `guidance` is not callable or a list of callables.
        RuntimeError: something is attached to the pipeline already.
    """
    callbacks = as_list(guidance)
    check_order(callbacks)
    return Attachment(
        pipe,
        callbacks,
        family=family,
        verify=verify,
        check_finite=check_finite,
        post_process=post_process,
        skip=skip,
    )


def detach(pipe: Pipeline) -> None:
    """Take off whatever is attached to `pipe`, also where nobody kept what `attach` returned. Nothing attached: do
    nothing."""
    for attachment in list(_ATTACHED):
        if attachment.pipe is pipe:
            attachment.detach()


class Attachment:
    """A pipeline with callbacks attached; made by `attach`.

    Attributes:
        pipe, callbacks: as given.
        family: how the pipeline calls its network; None until it is inferred.
    """

    def __init__(
        self,
        pipe: Pipeline,
        callbacks: list[Guide],
        *,
        family: Family | None = None,
        verify: bool = True,
        check_finite: bool = False,
        post_process: bool = True,
        skip: bool = True,
    ):
        self.pipe, self.callbacks = pipe, callbacks
        self.verify, self.check_finite, self.post_process = verify, check_finite, post_process
        self._may_skip = skip and verify
        if any(attachment.pipe is pipe for attachment in list(_ATTACHED)):
            raise RuntimeError(
                f"guidance is attached to this {type(pipe).__name__} already; leave that `with` block (or call "
                "diffusion_guidance.detach(pipe)) first, or pass all callbacks in one list"
            )
        self.family: Family | None = family or registered_family(pipe)
        self._inferring = self.family is None
        self._verified: Run | None = None  # the last run in which the family was checked
        self.scheduler = _scheduler(pipe)
        self._proceed = chain(callbacks)
        names = names_of(self.scheduler.step)
        self._step_names = names if set(_STEP) <= set(names) else _STEP  # somebody's wrapper may show none
        self._thread = threading.get_ident()
        self._run: Run | None = None
        self._frame: FrameType | None = None  # of the pipeline's call, between its network's and its scheduler's
        self._made = 0
        self._passes = Passes()
        self._recorder = Recorder(_networks(pipe, self.family), self._belongs, self._passes)
        self._stand_ins = [
            Replacement(self.scheduler, "step", self._step),
            Replacement(self.scheduler, "set_timesteps", self._set_timesteps),
        ]
        self._installed: list[Callable[[], None]] = []
        try:
            _ATTACHED.add(self)
            self._recorder.install()
            for stand_in in self._stand_ins:
                stand_in.install()
            for callback in callbacks:
                if isinstance(callback, Callback) and (undo := callback.install(pipe, self._is_ours)):
                    self._installed.append(undo)
        except BaseException:
            self.detach()
            raise

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            if kind is None and self._run is not None and self._run.grid_index < 0 and not self._run.by_hand:
                check_stepped(self.pipe, self._recorder.calls, most=2)
        finally:
            self.detach()

    def detach(self) -> None:
        """Restore the pipeline exactly. Detaching twice does nothing."""
        try:
            self._undo()
        except BaseException:  # an interrupt at any line of it
            self._undo()
            raise

    def _undo(self) -> None:
        for undo in reversed(self._installed):
            undo()
        for stand_in in self._stand_ins:
            stand_in.undo()
        self._passes.remove()
        self._recorder.remove()
        self._end()
        _ATTACHED.discard(self)

    @property
    def evaluations(self) -> float:
        """Evaluations of the network in the last run, on the callbacks' own account, minus those of its own that the
        pipeline was spared; both predictions together are one."""
        return self._made - self._passes.spared

    @property
    def _current(self) -> Run:
        assert self._run is not None, "between runs"
        return self._run

    @property
    def _known(self) -> Family:
        assert self.family is not None, "before the family is known"
        return self.family

    # Whose call it is.

    def _begin(self, by_hand: bool) -> None:
        self._end()
        self._made = 0
        self._recorder.install()  # the network may have been compiled since
        self._run = Run(self.pipe, self.scheduler, by_hand)
        self._isolations: dict[torch.nn.Module, Isolation] = {}
        self._told_guided: dict[str, bool] = {}
        self._skip: Skip | None = None  # of this run, once it is known
        self._skip_tried = not self._may_skip or by_hand

    def _end(self) -> None:
        self._frame = None
        self._recorder.clear()
        self._passes.reset()
        if self._run is not None:
            self._run.end()

    def _belongs(self) -> bool:
        """Whether the pipeline's run makes the call of a network that is just being made."""
        if not self._is_own_call():
            return False
        if self.pipe.scheduler is not self.scheduler:
            raise RuntimeError("the pipeline's scheduler was replaced while guidance was attached; attach again")
        if not self._current.by_hand and len(self._recorder.calls) > MOST:
            check_stepped(self.pipe, self._recorder.calls)
        return True

    def _is_ours(self) -> bool:
        """Whether the pipeline's run, or a callback in its step, makes the call of a network that is being made."""
        run = self._run
        return (
            run is not None and run.thread == threading.get_ident() and (self._recorder.paused or self._is_own_call())
        )

    def _is_own_call(self) -> bool:
        run, thread = self._run, threading.get_ident()
        if run is not None and run.thread != thread:
            return False
        if run is not None and run.by_hand:
            return running(self.pipe) is None
        self._frame = own_frame(self.pipe, self._frame)
        if self._frame is not None:
            if run is None:
                self._begin(by_hand=False)
            return True
        # A loop written by hand whose timesteps were set before.
        if thread != self._thread or torch.is_grad_enabled() or running(self.pipe) is not None:
            return False
        self._begin(by_hand=True)
        return True

    def _set_timesteps(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        caller = running(self.pipe)
        if caller is None or caller is self.pipe:
            self._begin(by_hand=caller is None)
        return original(*args, **kwargs)

    # The step.

    def _step(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        caller = running(self.pipe, self._frame)
        if caller is not None and caller is not self.pipe:
            return original(*args, **kwargs)
        if self._run is None or self._run.thread != threading.get_ident():
            self._begin(by_hand=caller is None)
        given = by_name(self._step_names, args, kwargs)
        self._current.advance(given["timestep"])
        if self._inferring:
            self._infer(given)
        observed = self._observe(given)
        self._check_family(observed)
        denoiser = StepDenoiser(observed, self._known, self._current, self._recorder, given, self._isolations)
        try:
            with self._recorder.pause():  # a callback may call the network
                prediction, handled = self._guide(observed, denoiser)
            prediction = self._known.finish(prediction, observed)
            with unbounded(self.scheduler) if "bounds" in handled else nullcontext():
                if "model_output" in kwargs:
                    result = original(*args, **kwargs | {"model_output": prediction})
                else:
                    result = original(prediction, *args[1:], **kwargs)
        finally:
            self._made += denoiser.made
            denoiser.close()
            calls, self._frame = len(self._recorder.calls), None
            self._recorder.clear()
            self._passes.clear()
        if denoiser.reused:
            self._passes.answer(self._answers(denoiser, result))
        elif not self._skip_tried or self._skip is not None:
            self._plan_skip(observed, calls)
        return result

    def _plan_skip(self, observed: Observed, calls: int) -> None:
        """Leave out the unconditional pass of the coming step where nobody reads it."""
        coming = range(self._current.grid_index + 1, len(self.scheduler.timesteps))
        if not self._skip_tried and self._current.guided:
            self._skip_tried = True
            late = any(getattr(callback, "decides_late", False) for callback in self.callbacks)
            if calls == len(observed.calls) and (late or not all(map(self._needs_unconditional, coming))):
                self._skip = self._find_skip(observed)
        if self._skip is not None and coming and not self._needs_unconditional(coming[0]):
            self._skipped_at = coming[0]
            self._passes.skip(self._skip)

    def _needs_unconditional(self, grid_index: int) -> bool:
        def level() -> Level | None:
            if not is_understood(self.scheduler):
                return None
            found = level_at_index(self.scheduler, grid_index)
            return None if any(value.device.type != "cpu" for value in found) else found

        run = self._current
        upcoming = Upcoming(run.number_of(grid_index), run.total, level, run.identity)
        return needs_unconditional(self.callbacks, upcoming)

    def _find_skip(self, observed: Observed) -> Skip | None:
        modules = {call.module for call in observed.calls}
        if self._post_processing or any(is_compiled(module) or self._keeps_state(module) for module in modules):
            return None
        skip = skip_of(observed, self._known)
        with self._recorder.pause(), torch.no_grad():
            return skip if skip is not None and is_right(skip) else None

    def _keeps_state(self, module: torch.nn.Module) -> bool:
        if module not in self._isolations:
            self._isolations[module] = Isolation(module)
        return self._isolations[module].keeps_state

    def _infer(self, given: dict) -> None:
        """The family of this step; for good once the pipeline guides."""
        seen = Observed(
            self.pipe, tuple(self._recorder.calls), given["model_output"], given["timestep"], given["sample"]
        )
        self.family = establish(seen, None, self._scaled, self.verify)
        if self._known.is_guided(of_family(seen, self._known)):
            self._inferring, self._verified = False, self._run
            self._recorder.keep_only(self._known.denoiser, self._known.second_denoiser)

    def _check_family(self, observed: Observed) -> None:
        if not self.verify or self._inferring or self._verified is self._run:
            return
        if self._known.guided is not None or self._known.is_guided(observed):
            self._verified = self._run
            check(as_made_by_hand(self._known) if self._current.by_hand else self._known, observed, self._scaled)

    def _scaled(self, sample: torch.Tensor) -> torch.Tensor | None:
        if not is_understood(self.scheduler):
            return None
        return network_input(self.scheduler, sample, self._level_here)

    def _level_here(self) -> Level:
        return level_at_index(self.scheduler, self._current.grid_index)

    def _observe(self, given: dict) -> Observed:
        name = f"{type(self.pipe).__name__}.{self._known.denoiser}"
        calls, aside = [], None
        denoisers = (self._known.denoiser, self._known.second_denoiser)
        for call in self._recorder.calls:
            if call.name not in denoisers:  # other networks are watched until the family is known
                continue
            if any(call.arguments.get(argument) is not None for argument in self._known.aside):
                aside = call.output
            else:
                calls.append(call)
        if self._current.by_hand:
            calls = calls[-self._known.calls :]
        self._check(calls, name)
        found = dict(self._told_guided)
        return Observed(
            self.pipe, tuple(calls), given["model_output"], given["timestep"], given["sample"], aside, found
        )

    def _check(self, calls: list[Call], name: str) -> None:
        if not calls:
            raise RuntimeError(
                f"the scheduler's step ran, but {name} was not called before it; was it replaced while guidance was "
                "attached?"
            )
        if len(calls) > self._known.calls and type(self._known) is Family and not self._known.names:
            raise RuntimeError(
                f"{name} was called more than {self._known.calls} time(s) without a step of the scheduler that "
                "guidance is attached to. Either the pipeline makes a further pass, which its family must describe "
                "(see diffusion_guidance.Family: calls, aside), or it steps another scheduler, such as a copy of its "
                "own"
            )
        for argument in (self._known.sample, self._known.timestep):
            if argument is not None and argument not in calls[0].arguments:
                raise ValueError(
                    f"{name} was called without {argument!r}, which its family names as an argument; it was called "
                    f"with {', '.join(calls[0].arguments)}"
                )

    def _guide(self, observed: Observed, denoiser: StepDenoiser) -> tuple[torch.Tensor, set[str]]:
        family, run = self._known, self._current
        guided = family.is_guided(observed)
        if family.guided is not None:
            self._told_guided["guided"] = guided
        run.guided |= guided
        output: Any  # None where the pipeline made no combination
        output, sample = family.stepped(observed)
        predictions = family.named([call.output for call in observed.calls], observed, sample)
        if self._passes.skipped:
            if self._current.grid_index == self._skipped_at or not self._needs_unconditional(self._current.grid_index):
                guided, predictions = False, {"cond": predictions["cond"]}
                output = predictions["cond"]
            else:  # the loop went elsewhere than was expected
                predictions = dict(denoiser.predict(sample, observed.timestep, self._level_here))
                output = None
        weight = evaluation = post_processing = self._post_processing = None
        if guided:
            evaluation = Evaluation(
                self.pipe, denoiser.module, predictions["cond"], predictions["uncond"], output, observed.aside
            )
            weight, post_processing = self._weight(evaluation), self._active_post_processing(evaluation)
            self._post_processing = post_processing
        denoiser.post_processed = self.post_process and post_processing is not None
        step = Step(
            sample=sample,
            timestep=observed.timestep,
            index=run.index,
            total=run.total,
            prediction_type=self._prediction_type(),
            denoiser=denoiser,
            predicted=predictions,
            combined=None if post_processing else output,
            weight=weight,
            grid_index=run.grid_index,
            first=run.first,
            run=run.identity,
            truncated=not guided and (run.guided or self._may_come()),
        )
        prediction = self._proceed(step)
        if post_processing and step.is_own(prediction):
            prediction = output
        elif denoiser.post_processed and post_processing and evaluation:
            prediction = post_processing.apply(prediction, evaluation)
        if self.check_finite and not bool(torch.isfinite(prediction).all()):
            source = "the network's own" if not bool(torch.isfinite(step.cond).all()) else "the callbacks'"
            raise FloatingPointError(f"{source} prediction is not finite at step {step.index} of {step.total}")
        return prediction, step.handled

    def _may_come(self) -> bool:
        """Whether the unconditional pass may begin later in this run, as far as the pipeline says."""
        return not self._current.is_last and bool(getattr(self.pipe, "do_classifier_free_guidance", False))

    def _active_post_processing(self, evaluation: Evaluation) -> PostProcessing | None:
        post_processing = self._known.post_processing
        return post_processing if post_processing and post_processing.active(evaluation) else None

    def _weight(self, evaluation: Evaluation) -> float | Callable[[], float | torch.Tensor] | None:
        weight = self._known.weight
        if callable(weight):
            return functools.partial(weight, evaluation)  # found only where a callback asks
        return getattr(self.pipe, weight, None) if weight else None

    def _prediction_type(self) -> str:
        return self._known.prediction_type or prediction_type(self.scheduler)

    def _answers(self, denoiser: StepDenoiser, result: Any) -> list[Answer]:
        """What a callback found stands for the pipeline's calls at the sample to which the sampler went."""
        sample, index = result[0] if isinstance(result, tuple) else result.prev_sample, self._current.grid_index + 1
        answers = []
        for call, output in denoiser.reused:
            expected = denoiser.expected(call, sample, index)
            answers.append(Answer(call, expected, output, versions(expected)))
        return answers


def _scheduler(pipe: Pipeline) -> Scheduler:
    scheduler: Any = getattr(pipe, "scheduler", None)
    if not (callable(getattr(scheduler, "step", None)) and callable(getattr(scheduler, "set_timesteps", None))):
        raise ValueError(
            f"{type(pipe).__name__} has no scheduler with set_timesteps and step, to which guidance would be attached"
        )
    return scheduler


def _networks(pipe: Pipeline, family: Family | None) -> dict[str, torch.nn.Module]:
    """The networks to watch, by the pipeline's name for each: all while the family is not known."""
    if family is None:
        components = getattr(pipe, "components", None) or vars(pipe)
        found = {name: network for name, network in components.items() if isinstance(network, torch.nn.Module)}
        if not found:
            raise ValueError(f"{type(pipe).__name__} has no network that guidance could be attached to")
        return found
    names = [name for name in (family.denoiser, family.second_denoiser) if name is not None]
    networks = {name: getattr(pipe, name, None) for name in names}
    found = {name: network for name, network in networks.items() if isinstance(network, torch.nn.Module)}
    if not found:
        raise ValueError(
            f"{type(pipe).__name__} has no network {family.denoiser!r}, which its family names as the denoiser"
        )
    return found
