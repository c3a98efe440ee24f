"""Which of the pipeline's calls run its network: all, except where a callback has found the answer already."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .arguments import same
from .families import Call
from .replacement import Replacement


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
        spared: evaluations of this run that were answered.
    """

    def __init__(self):
        self._stand_ins: dict[torch.nn.Module, Replacement] = {}
        self.reset()

    def reset(self) -> None:
        """A run begins."""
        self.spared = 0
        self.clear()

    def clear(self) -> None:
        """A step ends: forget what the pipeline did not ask for."""
        self._answers: list[Answer] = []
        self._ready: tuple = ()  # the answer to the call that is about to run

    def remove(self) -> None:
        for stand_in in self._stand_ins.values():
            stand_in.undo()
        self._stand_ins.clear()
        self.reset()

    def answer(self, answers: list[Answer]) -> None:
        """In the coming step."""
        for answer in answers:
            module = answer.call.module
            if module not in self._stand_ins:
                self._stand_ins[module] = Replacement(module, "forward", self._forward).install()
        self._answers = answers

    def before(self, module: torch.nn.Module, arguments: dict) -> bool:
        """Whether the call that is about to run is answered; `after` is to be called then."""
        if not self._answers:
            return False
        answer = self._answers.pop(0)
        if not answer.fits(module, arguments):
            self._answers = []
            return False
        self._ready = (threading.get_ident(), answer.output)
        return True

    def after(self) -> None:
        """Count the evaluation with its last call, unless somebody replaced the forward, which then ran."""
        ready, self._ready = self._ready, ()
        self.spared += not ready and not self._answers

    def _forward(self, original: Callable, *args, **kwargs):
        if not self._ready or self._ready[0] != threading.get_ident():
            return original(*args, **kwargs)
        output, self._ready = self._ready[1], ()
        return output
