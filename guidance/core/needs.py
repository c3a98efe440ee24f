"""Whether a list of callbacks will need the unconditional prediction, asked before the network runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .levels import Level
from .step import Pass


@dataclass(frozen=True)
class Upcoming:
    """A step that has not come yet.

    Attributes:
        index, total, run: as in `Step`.
        level: gives (alpha, sigma) of its noise level, on the host; None where that would wait for the device.
    """

    index: int
    total: int
    level: Callable[[], Level | None] = lambda: None
    run: Pass | None = None


def needs_unconditional(callbacks: Sequence[Callable], upcoming: Upcoming) -> bool:
    """Whether any of `callbacks`, or the pipeline's own combination where they ask for it, reads the unconditional
    prediction in that step. What is not known is needed."""
    for callback in reversed(callbacks):
        said = getattr(callback, "unconditional", None)
        need = said(upcoming) if callable(said) else True
        if need is not None:
            return need
    return True
