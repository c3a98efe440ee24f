"""What a callback carries from step to step, kept apart for each run."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from .step import Pass, Step


@dataclass(frozen=True)
class _Entry:
    sample: torch.Tensor  # tells the evaluation: asked twice, a callback starts from the same state twice
    before: Any
    after: Any


class Remembers:
    """Mixin for a `Callback` with state, listed before it: `class Momentum(Remembers, Callback)`.

    `recalled` gives the state that the step before left, `remember` leaves one for the next. A run starts with none,
    and so does a run after one that broke off. Evaluations elsewhere (`Step.at`) see the state, and leave none.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._runs: WeakKeyDictionary[Pass, _Entry] = WeakKeyDictionary()

    def recalled(self, step: Step) -> Any:
        """What `remember` was given in the step before, or None."""
        entry = self._runs.get(step.run)
        if entry is None:
            return None
        return entry.before if entry.sample is step.sample else entry.after

    def remember(self, step: Step, state: Any) -> None:
        """Keep `state`, not None, for the next step."""
        if not step.elsewhere:
            self._runs[step.run] = _Entry(step.sample, self.recalled(step), state)
