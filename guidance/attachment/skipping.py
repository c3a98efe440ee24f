"""Unconditional passes that no callback reads, left out: half of a batch, or the second of two calls."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch

from .families import Call, Family, Observed
from .halves import agrees, half_of, signature


_TRIED: WeakKeyDictionary[torch.nn.Module, dict[object, bool]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Skip:
    """What stands for the unconditional pass of one step.

    Attributes:
        calls: of a step in which both passes ran.
        cond: position of the conditional prediction: the half of the only call, or the call of the two.
    """

    calls: tuple[Call, ...]
    cond: int

    @property
    def samples(self) -> int:
        """Of both halves."""
        return len(self.calls[0].output)

    def fits(self, position: int, module: torch.nn.Module, arguments: dict) -> bool:
        """Whether the call in `position` of a step is as the one seen."""
        if position >= len(self.calls):
            return False
        seen = self.calls[position]
        return seen.module is module and signature(seen.arguments) == signature(arguments)

    def leaves_out(self, position: int) -> bool:
        """Whether that call does not run at all."""
        return len(self.calls) == 2 and position != self.cond

    def half(self, arguments: dict) -> dict:
        return half_of(arguments, self.samples, self.cond)


def skip_of(observed: Observed, family: Family) -> Skip | None:
    """How the unconditional pass of a step like this guided one could be left out; None where it is not known how."""
    calls = observed.calls
    samples = len(family.stepped(observed)[1])
    if family.names or any(isinstance(call.output, list) and family.calls == 2 for call in calls):
        return None
    if len(calls) == 2 and all(len(call.output) == samples for call in calls):
        return Skip(calls, family.cond_position(2))
    if len(calls) == 1 and len(calls[0].output) == 2 * samples:
        return Skip(calls, family.cond_position(2))
    return None


def is_right(skip: Skip) -> bool:
    """Whether the network gives half of the batch what it gave it in the whole. It is run and read for that, once for
    every shape of its arguments."""
    if len(skip.calls) == 2:
        return True
    call = skip.calls[0]
    tried = _TRIED.setdefault(call.module, {})
    key = (skip.cond, signature(call.arguments))
    if key not in tried:
        try:
            found = call.module(**skip.half(call.arguments))
        except (RuntimeError, ValueError, IndexError, TypeError):  # an argument that is no batch was cut
            tried[key] = False
        else:
            tried[key] = bool(agrees(found, call.output, skip.samples, skip.cond))
    return tried[key]
