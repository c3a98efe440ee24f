"""A pipeline with callbacks attached.

Hooks on the networks record what the pipeline calls them with and what they return; a stand-in for the scheduler
instance's `step` asks the callbacks, see `Stepping`. Only the pipeline's own run is touched: who calls is seen on the
stack, so that siblings that share the network or the scheduler run as if nothing were attached.
"""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

from ..core.callback import Callback, Guide
from ..core.protocols import Pipeline
from .facts import Facts
from .families import Family, registered_family
from .guiding import Guiding
from .passes import Passes
from .recorder import Recorder
from .replacement import Replacement
from .run import Run
from .runs import Runs
from .skip_plan import SkipPlan
from .stepping import Stepping
from .unstepped import MOST, check_stepped
from .watched import networks_of, scheduler_of


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
        self.scheduler = scheduler_of(pipe)
        self._runs = Runs(pipe, self.scheduler, self._began, self._ended)
        self._plan: SkipPlan  # of a run
        self._passes = Passes()
        self._recorder = Recorder(networks_of(pipe, self.family), self._belongs, self._passes)
        guiding = Guiding(callbacks, post_process, check_finite)
        self._stepping = Stepping(self.scheduler, self._facts, guiding, self._recorder, self._passes)
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
        pipeline was spared; both predictions together are one. It stays after detaching."""
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
        try:
            return self._stepping.step(run, self._plan, original, args, kwargs)
        finally:
            self._runs.end_step()
