"""Adaptive guidance (arXiv 2312.12487): the unconditional pass stops once the two predictions agree."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import per_sample, sample_norm
from ..core.memory import Remembers
from ..core.needs import Upcoming
from ..core.step import Step


def agreement(cond: torch.Tensor, uncond: torch.Tensor) -> torch.Tensor:
    """(B,) float32: the cosine between the two predictions (B, ...) of each sample; 0 where one of them is 0."""
    dot = (cond.float() * uncond.float()).flatten(1).sum(1)
    lengths = sample_norm(cond.float()) * sample_norm(uncond.float())
    return dot / lengths.clamp_min(torch.finfo(torch.float32).tiny)


class _Agreed(NamedTuple):
    each: torch.Tensor  # (B,) bool
    all: Callable[[], bool]


class AdaptiveGuidance(Remembers, Callback):
    """Stops the unconditional pass once the two predictions agree.

    Until a sample's predictions agree it gets what stands before it in the list; from the next step on, its conditional
    prediction alone. Steps in which no sample is guided run without the unconditional pass (see `attach`, `skip`).

    The cosine is computed on the device, per sample, and the result never waits for the host. Only whether the pass
    runs depends on the host: it drops the pass as soon as it knows that all samples agree, which is at once on a CPU,
    and on CUDA about a step later, when an asynchronous copy has arrived. On other devices `bound` saves nothing;
    `after` saves everywhere.

    Neutral: `bound=None`.
    Source: arXiv 2312.12487.

    Notes for `Trace`: `agreement` (B,).

    Args:
        bound: the cosine above which the predictions of a sample agree, in the network's own space (eps, v, velocity);
            None for never. The paper's bounds near 0.99 are for eps.
        after: no sample is guided from this fraction of the steps on.
        start, stop: see `Callback`.

    Raises:
        ValueError: `bound` not in (-1, 1), or `after` not in [0, 1].
    """

    needs_unconditional = True
    decides_late = True

    @register_to_config
    def __init__(self, bound: float | None = 0.99, after: float = 1.0, start: float = 0.0, stop: float = 1.0):
        super().__init__(start, stop)
        if bound is not None and not -1 < bound < 1:
            raise ValueError(f"bound is a cosine, in (-1, 1), got {bound}")
        if not 0 <= after <= 1:
            raise ValueError(f"after is a fraction of the steps, in [0, 1], got {after}")
        self.bound, self.after = bound, after

    def reads(self, upcoming: Upcoming) -> bool | None:
        if upcoming.index >= int(self.after * upcoming.total):
            return False
        entry = self._runs.get(upcoming.run) if upcoming.run is not None else None
        return False if entry is not None and entry.after.all() else None

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        if step.index + step.ahead >= int(self.after * step.total):
            return step.cond
        if self.bound is None:
            return proceed(step)
        before, found = self.recalled(step), agreement(step.cond, step.uncond)
        agreed = found > self.bound if before is None else before.each | (found > self.bound)
        step.notes["agreement"] = found
        if not step.elsewhere:
            self.remember(step, _Agreed(agreed, _when_known(agreed.all())))
        guided = proceed(step)
        return guided if before is None else torch.where(per_sample(before.each, guided), step.cond, guided)


def _when_known(flag: torch.Tensor) -> Callable[[], bool]:
    """What says whether `flag`, 0-d bool, is true, without ever waiting: False until that is known."""
    if flag.device.type == "cpu":
        return lambda: bool(flag)
    if flag.device.type != "cuda":
        return lambda: False
    copy, arrived = torch.empty((), dtype=torch.bool, pin_memory=True), torch.cuda.Event()
    copy.copy_(flag, non_blocking=True)
    arrived.record(torch.cuda.current_stream(flag.device))
    return lambda: arrived.query() and bool(copy)
