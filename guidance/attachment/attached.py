"""A pipeline with callbacks attached.

Hooks on the networks record what the pipeline calls them with and what they return; the scheduler instance's `step` is
replaced by one that rebuilds the predictions, asks the callbacks, and calls the original with their answer. The
pipeline's own combination is ignored unless a callback asks for it. Only the pipeline's own run is touched: who calls
is seen on the stack, so that siblings that share the network or the scheduler run as if nothing were attached.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch

from ..core.bounds import unbounded
from ..core.callback import Callback, Guide
from ..core.protocols import Pipeline, Scheduler
from .arguments import versions
from .denoiser import StepDenoiser
from .facts import Facts
from .families import Family, registered_family
from .guiding import Guiding
from .passes import Answer, Passes
from .recorder import Recorder, by_name, names_of
from .replacement import Replacement
from .run import Run
from .runs import Runs
from .skip_plan import SkipPlan
from .unstepped import MOST, check_stepped


_STEP = ("model_output", "timestep", "sample")  # what the `step` of every scheduler begins with
_ATTACHED: "weakref.WeakSet[Attachment]" = weakref.WeakSet()


def attached_to(pipe: Pipeline) -> "Iterator[Attachment]":
    """What is attached to `pipe`: one at most."""
    return (attachment for attachment in list(_ATTACHED) if attachment.pipe is pipe)


class Attachment:
    """A pipeline with callbacks attached; made by `attach`.

    Attributes:
        pipe, callbacks: as given.
        scheduler: the pipeline's own, at the time.
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
        self._may_skip, self._verify = skip and verify, verify
        if any(attached_to(pipe)):
            raise RuntimeError(
                f"guidance is attached to this {type(pipe).__name__} already; leave that `with` block (or call "
                "diffusion_guidance.detach(pipe)) first, or pass all callbacks in one list"
            )
        self._facts = Facts(family or registered_family(pipe), verify)
        self.scheduler = _scheduler(pipe)
        names = names_of(self.scheduler.step)
        self._step_names = names if set(_STEP) <= set(names) else _STEP  # somebody's wrapper may show none
        self._guiding = Guiding(callbacks, post_process, check_finite)
        self._runs = Runs(pipe, self.scheduler, self._began, self._ended)
        self._plan: SkipPlan  # of a run
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
        run = self._runs.latest
        try:
            if kind is None and run is not None and run.grid_index < 0 and not run.by_hand:
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
        self._runs.end()
        _ATTACHED.discard(self)

    @property
    def family(self) -> Family | None:
        """How the pipeline calls its network; None until it is inferred."""
        return self._facts.family

    @property
    def evaluations(self) -> float:
        """Evaluations of the network in the last run, on the callbacks' own account, minus those of its own that the
        pipeline was spared; both predictions together are one."""
        run = self._runs.latest
        return 0 if run is None else run.made - self._passes.spared

    def _began(self, run: Run) -> None:
        self._passes.reset()
        self._recorder.install()  # the network may have been compiled since
        if self._verify:
            run.watch(self._recorder.networks)
        self._plan = SkipPlan(self.callbacks, run, self._recorder, self._may_skip)

    def _ended(self) -> None:
        self._recorder.clear()
        self._passes.clear()

    def _belongs(self) -> bool:
        """Whether the pipeline's run makes the call of a network that is just being made."""
        run = self._runs.of_call()
        if run is None:
            return False
        if self.pipe.scheduler is not self.scheduler:
            raise RuntimeError("the pipeline's scheduler was replaced while guidance was attached; attach again")
        if not run.by_hand and len(self._recorder.calls) > MOST:
            check_stepped(self.pipe, self._recorder.calls)
        return True

    def _is_ours(self) -> bool:
        """Whether the pipeline's run, or a callback in its step, makes the call of a network that is being made."""
        return self._runs.is_here and (self._recorder.paused or self._runs.of_call() is not None)

    def _set_timesteps(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        self._runs.of_timesteps()
        return original(*args, **kwargs)

    def _step(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        run = self._runs.of_step()
        if run is None:
            return original(*args, **kwargs)
        given = by_name(self._step_names, args, kwargs)
        run.advance(given["timestep"])
        observed = self._facts.observe(run, self._recorder, given)
        family = self._facts.known
        denoiser = StepDenoiser(observed, family, run, self._recorder, given)
        try:
            with self._recorder.pause():  # a callback may call the network
                guided = self._guiding.guide(denoiser, self._plan if self._passes.skipped else None)
            prediction = family.finish(guided.prediction, observed)
            with unbounded(self.scheduler) if "bounds" in guided.handled else nullcontext():
                if "model_output" in kwargs:
                    result = original(*args, **kwargs | {"model_output": prediction})
                else:
                    result = original(prediction, *args[1:], **kwargs)
        finally:
            run.made += denoiser.made
            denoiser.close()
            calls = len(self._recorder.calls)
            self._runs.end_step()
            self._recorder.clear()
            self._passes.clear()
        if denoiser.reused:
            self._passes.answer(_answers(denoiser, result))
        elif skip := self._plan.coming(observed, family, calls, guided.post_processed):
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
