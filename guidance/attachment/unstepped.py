"""A pipeline that steps another scheduler than its own, such as copies of it, is refused: no callback would run."""

from collections.abc import Iterable

from ..core.protocols import Pipeline
from .families import Call
from .roles import time_argument


MOST = 8  # predictions before a step; no pipeline that can be guided makes more


def check_stepped(pipe: Pipeline, calls: Iterable[Call], most: int = MOST) -> None:
    """Check that `calls`, those since the last step of the pipeline's scheduler, end with at most `most` of a denoiser.

    Raises:
        RuntimeError: there are more.
    """
    calls = list(calls)[-most - 1 :]
    name = calls[-1].name if calls else None
    if len(calls) > most and all(call.name == name and time_argument(call) is not None for call in calls):
        raise RuntimeError(
            f"{type(pipe).__name__} called its {name} {len(calls)} times or more without a step of pipe.scheduler, so "
            "it steps another one, such as a copy of it, and guidance that is attached would have no effect; write the "
            "loop by hand with pipe.scheduler.step"
        )
