"""Which of the pipeline's calls run its network: all, except where a callback has found the answer already, and the
unconditional pass of steps in which nobody reads it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from .arguments import same
from .families import Call
from .halves import twice
from .replacement import Replacement
from .skipping import Skip


@dataclass(frozen=True)
class Answer:
    """What stands for the pipeline's next call, if that call is the one that is expected.

    Attributes:
        call: the pipeline's call in the step before.
        expected: its arguments, at the sample to which the sampler went.
        output: all that the network returned when a callback evaluated it.
        unchanged: the tensors among the arguments, and how often each had been changed in place.
    """

    call: Call
    expected: dict
    output: object
    unchanged: list[tuple[torch.Tensor, int]]

    def fits(self, module: torch.nn.Module, arguments: dict) -> bool:
        return (
            module is self.call.module
            and all(tensor._version == version for tensor, version in self.unchanged)
            and same(self.expected, arguments)
        )


class Passes:
    """Decides for each call of the pipeline's own whether the network runs; a `Recorder` asks.

    Attributes:
        spared: evaluations of this run that were answered; an unconditional pass is half of one.
        skipped: whether the unconditional pass of the step in hand was left out.
    """

    def __init__(self) -> None:
        self._stand_ins: dict[torch.nn.Module, Replacement] = {}
        self.reset()

    def reset(self) -> None:
        """A run begins."""
        self.spared: float = 0
        self.clear()

    def clear(self) -> None:
        """A step ends: forget what the pipeline did not ask for."""
        self._answers: list[Answer] = []
        self._skip: Skip | None = None
        self.skipped = False
        self._ready: tuple = ()  # the thread, and what gives the result of the call that is about to run

    def remove(self) -> None:
        for stand_in in self._stand_ins.values():
            stand_in.undo()
        self._stand_ins.clear()
        self.clear()

    def answer(self, answers: list[Answer]) -> None:
        """In the coming step."""
        self._stand_in(*(answer.call for answer in answers))
        self._answers = answers

    def skip(self, skip: Skip) -> None:
        """Leave out the unconditional pass of the coming step, if its calls are as those seen."""
        self._stand_in(*skip.calls)
        self._skip = skip

    def _stand_in(self, *calls: Call) -> None:
        for call in calls:
            if call.module not in self._stand_ins:
                self._stand_ins[call.module] = Replacement(call.module, "forward", self._forward).install()

    def before(self, module: torch.nn.Module, arguments: dict, position: int) -> bool:
        """Whether the call that is about to run, in that position of its step, is answered in whole; `after` is to be
        called then."""
        if self._skip is not None:
            self._begin_skipped(self._skip, module, arguments, position)
            return False
        if not self._answers:
            return False
        answer = self._answers.pop(0)
        if not answer.fits(module, arguments):
            self._answers = []
            return False
        self._ready = (threading.get_ident(), lambda original, args, kwargs: answer.output)
        return True

    def _begin_skipped(self, skip: Skip, module: torch.nn.Module, arguments: dict, position: int) -> None:
        if not skip.fits(position, module, arguments):
            self._skip = None
        elif skip.leaves_out(position):
            returned = skip.calls[position].returned  # of another step: the pipeline combines it, and nobody uses that
            self._ready = (threading.get_ident(), lambda original, args, kwargs: self._skipped(returned))
        elif len(skip.calls) == 1:
            half = skip.half(arguments)
            run = lambda original, args, kwargs: self._skipped(twice(original(**half), skip.samples))  # noqa: E731
            self._ready = (threading.get_ident(), run)

    def _skipped(self, result: Any) -> Any:
        self.skipped = True
        self.spared += 0.5
        return result

    def after(self) -> None:
        """Count the evaluation with its last call, unless somebody replaced the forward, which then ran."""
        ready, self._ready = self._ready, ()
        self.spared += not ready and not self._answers

    def _forward(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        if not self._ready or self._ready[0] != threading.get_ident():
            return original(*args, **kwargs)
        result, self._ready = self._ready[1], ()
        return result(original, args, kwargs)
