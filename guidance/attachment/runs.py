"""The runs of one pipeline, and whether a call of a network or of the scheduler belongs to one."""

import threading
from collections.abc import Callable
from types import FrameType

import torch

from ..core.protocols import Pipeline, Scheduler
from .caller import own_frame, running
from .run import Run


class Runs:
    """Begins a run with the scheduler's timesteps, or with the first call of a loop written by hand.

    Args:
        began, ended: called then; the end of a run is seen when the next one begins.

    Attributes:
        latest: the run in hand, or the last one; None before the first.
    """

    def __init__(self, pipe: Pipeline, scheduler: Scheduler, began: Callable[[Run], None], ended: Callable[[], None]):
        self.pipe, self.scheduler = pipe, scheduler
        self._began, self._ended = began, ended
        self.latest: Run | None = None
        self._thread = threading.get_ident()
        self._frame: FrameType | None = None  # of the pipeline's call, between its network's and its scheduler's

    @property
    def is_here(self) -> bool:
        """Whether the run in hand is of this thread."""
        return self.latest is not None and self.latest.thread == threading.get_ident()

    def begin(self, by_hand: bool) -> Run:
        self.end()
        self.latest = Run(self.pipe, self.scheduler, by_hand)
        self._began(self.latest)
        return self.latest

    def end(self) -> None:
        self._frame = None
        self._ended()
        if self.latest is not None:
            self.latest.end()

    def end_step(self) -> None:
        self._frame = None

    def of_timesteps(self) -> None:
        """Begin a run, if it is this pipeline or a loop written by hand that sets the scheduler's timesteps."""
        caller = running(self.pipe)
        if caller is None or caller is self.pipe:
            self.begin(by_hand=caller is None)

    def of_step(self) -> Run | None:
        """The run that steps the scheduler; None where another pipeline does."""
        caller = running(self.pipe, self._frame)
        if caller is not None and caller is not self.pipe:
            return None
        return self.latest if self.latest is not None and self.is_here else self.begin(by_hand=caller is None)

    def of_call(self) -> Run | None:
        """The run that makes the call of a network that is just being made; None where anybody else does."""
        run, thread = self.latest, threading.get_ident()
        if run is not None and run.thread != thread:
            return None
        if run is not None and run.by_hand:
            return run if running(self.pipe) is None else None
        self._frame = own_frame(self.pipe, self._frame)
        if self._frame is not None:
            return run or self.begin(by_hand=False)
        # A loop written by hand whose timesteps were set before.
        if thread != self._thread or torch.is_grad_enabled() or running(self.pipe) is not None:
            return None
        return self.begin(by_hand=True)
