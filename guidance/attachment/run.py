"""One run of a pipeline: from its scheduler's timesteps to the end of its call, or a loop written by hand."""

import functools
import threading
from collections.abc import Iterable

import torch

from ..core.levels import Level, level_at_index, prediction_type, sampler_index
from ..core.position import place, place_by_value, step_number
from ..core.protocols import Pipeline, Scheduler
from ..core.step import Pass
from .caches import Isolation
from .snapshot import OTHERS, Snapshot, snapshot


class Run:
    """Where a run is on the sampler's grid, by the timestep in hand.

    Attributes:
        thread: identity of the thread in which it runs.
        by_hand: whether a loop written by hand makes it; otherwise the pipeline's own call.
        identity: of this pass over the grid; a loop written by hand may pass several times.
        grid_index: position on the grid of the evaluation in hand; -1 before the first.
        first: position on the grid at which this pass began.
        index, total: which of the user's steps this evaluation is, from 0, and how many this pass has.
        guided: whether any evaluation of this pass had an unconditional prediction.
        made: evaluations that callbacks asked for.
        found: what stays as it is in all steps; see `Observed.once`.
    """

    def __init__(self, pipe: Pipeline, scheduler: Scheduler, by_hand: bool):
        self.pipe, self.scheduler, self.by_hand = pipe, scheduler, by_hand
        self.thread = threading.get_ident()
        self.grid_index, self.first = -1, 0
        self.identity, self.index, self.total = Pass(), 0, 0
        self.guided, self.made = False, 0
        self.found: dict[str, bool] = {}
        self._isolations: dict[torch.nn.Module, Isolation] = {}
        self._kept: dict[torch.nn.Module, Snapshot] = {}
        self._values: list[float] | None = None
        self._marked = not by_hand and _mark(pipe)
        self._evaluations: int | None = None  # of this call, where the pipeline says so

    def watch(self, modules: Iterable[torch.nn.Module]) -> None:
        """Look at what hooks and modules keep between the calls of these networks, from now on."""
        self._kept = {module: snapshot(module, OTHERS) for module in modules}

    def advance(self, timestep: torch.Tensor | float) -> None:
        """Take note of the evaluation at `timestep`, one of the scheduler's."""
        before, self.grid_index = self.grid_index, self._locate(timestep)
        if before < 0:
            self._evaluations = None if self.by_hand else _written(self.pipe)
        if before < 0 or self.grid_index <= before:
            self._begin_pass()
        self.index = self.number_of(self.grid_index)

    def number_of(self, index: int) -> int:
        """Which of the user's steps position `index` of the grid is, counted as `self.index`."""
        return step_number(self.scheduler, index) - step_number(self.scheduler, self.first)

    def level(self) -> Level:
        """alpha and sigma of the evaluation in hand."""
        return level_at_index(self.scheduler, self.grid_index)

    def isolation(self, module: torch.nn.Module) -> Isolation:
        """What keeps state between the calls of `module`, found once a run."""
        if module not in self._isolations:
            self._isolations[module] = Isolation(module, self._kept.get(module))
        return self._isolations[module]

    @functools.cached_property
    def prediction_type(self) -> str:
        """What networks predict under the scheduler."""
        return prediction_type(self.scheduler)

    @property
    def is_last(self) -> bool:
        return self.index + 1 >= self.total

    def end(self) -> None:
        if self._marked:
            _written(self.pipe)

    def _begin_pass(self) -> None:
        self.identity, self.first, self.guided = Pass(), self.grid_index, False
        last = len(self.scheduler.timesteps) - 1
        if isinstance(self._evaluations, int) and self._evaluations > 0:
            last = min(last, self.first + self._evaluations - 1)
        self.total = self.number_of(last) + 1

    def _locate(self, timestep: torch.Tensor | float) -> int:
        index = sampler_index(self.scheduler, timestep)
        if index is None:
            index = place(self.scheduler.timesteps, timestep)
        if index is not None:
            return index
        expected = (self.grid_index + 1) % len(self.scheduler.timesteps)
        if self.grid_index < 0 and isinstance(timestep, torch.Tensor):
            timestep = timestep.cpu()  # waits for the device, in the first step alone
        if isinstance(timestep, torch.Tensor) and timestep.device.type != "cpu":
            return expected
        if self._values is None:
            self._values = self.scheduler.timesteps.tolist()
        index = place_by_value(self._values, timestep, expected)
        return expected if index is None else index


class _Before(int):
    """The number of timesteps of an earlier call, until the call that runs writes its own."""


def _mark(pipe: Pipeline) -> bool:
    before = vars(pipe).get("_num_timesteps")
    if isinstance(before, int):
        vars(pipe)["_num_timesteps"] = _Before(before)
    return isinstance(before, int)


def _written(pipe: Pipeline) -> int | None:
    """How many evaluations the pipeline says that this very call has."""
    number = vars(pipe).get("_num_timesteps")
    if not isinstance(number, _Before):
        return number
    vars(pipe)["_num_timesteps"] = int(number)
    return None
