"""Which steps of a run leave out their unconditional pass: those in which no callback reads it."""

import torch

from ..core.callback import Guide
from ..core.levels import Level, is_understood, level_at_index
from ..core.needs import Upcoming, needs_unconditional
from .families import Family, Observed
from .recorder import Recorder, is_compiled
from .run import Run
from .skipping import Skip, is_right, skip_of


class SkipPlan:
    """Finds out after the first guided step of `run` whether and how, and decides then step by step.

    Args:
        may: whether any pass may be left out.
    """

    def __init__(self, callbacks: list[Guide], run: Run, recorder: Recorder, may: bool):
        self._callbacks, self._run, self._recorder = callbacks, run, recorder
        self._skip: Skip | None = None
        self._tried = not may or run.by_hand
        self._at = -1

    def coming(self, observed: Observed, family: Family, calls: int, post_processed: bool) -> Skip | None:
        """What stands for the unconditional pass of the step after `observed`; None where it is to run.

        Args:
            observed: the step in hand.
            calls: how many calls were recorded in it, also those of other networks.
            post_processed: whether the pipeline changed its combination.
        """
        run = self._run
        coming = range(run.grid_index + 1, len(run.scheduler.timesteps))
        if not self._tried and run.guided:
            self._tried = True
            late = any(getattr(callback, "decides_late", False) for callback in self._callbacks)
            if calls == len(observed.calls) and (late or not all(map(self._is_read, coming))):
                self._skip = None if post_processed else self._find(observed, family)
        if self._skip is None or not coming or self._is_read(coming[0]):
            return None
        self._at = coming[0]
        return self._skip

    def holds(self) -> bool:
        """Whether the step in hand is one that needs no unconditional pass; not where the loop went elsewhere than was
        expected."""
        return self._run.grid_index == self._at or not self._is_read(self._run.grid_index)

    def _is_read(self, grid_index: int) -> bool:
        run = self._run

        def level() -> Level | None:
            if not is_understood(run.scheduler):
                return None
            found = level_at_index(run.scheduler, grid_index)
            return None if any(value.device.type != "cpu" for value in found) else found

        upcoming = Upcoming(run.number_of(grid_index), run.total, level, run.identity)
        return needs_unconditional(self._callbacks, upcoming)

    def _find(self, observed: Observed, family: Family) -> Skip | None:
        modules = {call.module for call in observed.calls}
        if any(is_compiled(module) or self._run.isolation(module).keeps_state for module in modules):
            return None
        skip = skip_of(observed, family)
        with self._recorder.pause(), torch.no_grad():
            return skip if skip is not None and is_right(skip) else None
