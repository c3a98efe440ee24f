"""What a callback carries from step to step, kept apart for each run."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from .callback import Proceed
from .step import Step


@dataclass(frozen=True)
class _Entry:
    sample: torch.Tensor  # tells the evaluation: asked twice, a callback starts from the same state twice
    index: int
    before: Any
    after: Any


class Remembers:
    """Mixin for a `Callback` with state, listed before it: `class Momentum(Remembers, Callback)`.

    `recalled` gives the state that the step before left, `remember` leaves one for the next. A run starts with none,
    and so does a run after one that broke off. Evaluations elsewhere (`Step.at`) see the state, and leave none.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._runs: WeakKeyDictionary = WeakKeyDictionary()

    def __call__(self, step: Step, proceed: Proceed) -> torch.Tensor:
        if step.index == 0 and not step.elsewhere and self._runs:  # seen also outside of the window
            self._runs.pop(step.denoiser, None)
        return super().__call__(step, proceed)

    def recalled(self, step: Step) -> Any:
        """What `remember` was given in the step before, or None."""
        entry: _Entry | None = self._runs.get(step.denoiser)
        if entry is None or entry.index > step.index:
            return None
        return entry.before if entry.sample is step.sample else entry.after

    def remember(self, step: Step, state: Any) -> None:
        """Keep `state`, not None, for the next step."""
        if not step.elsewhere:
            self._runs[step.denoiser] = _Entry(step.sample, step.index, self.recalled(step), state)
