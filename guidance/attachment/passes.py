"""Which of the pipeline's calls run its network: all, except where an answer is at hand, or nobody reads the result."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .arguments import UnknownArgument, half, same
from .families import Call
from .replacement import Replacement


After = Callable[[object], tuple[object | None, bool]]  # another output, or None; and whether the call is kept


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


@dataclass(frozen=True)
class Skip:
    """The unconditional pass of a step is left out.

    Attributes:
        names: of the networks whose call it is.
        size: samples that the network is given in one call.
        sample: name of the argument with the samples.
        batched: whether both halves are one call; otherwise the second of two calls is the unconditional one.
        cond_first: which half of the one call is kept.
        aside: names of arguments that mark further calls.
    """

    names: tuple[str | None, ...]
    size: int
    sample: str
    batched: bool
    cond_first: bool
    aside: tuple[str, ...]

    def concerns(self, name: str, arguments: dict) -> bool:
        given = arguments.get(self.sample)
        return (
            name in self.names
            and isinstance(given, torch.Tensor)
            and len(given) == self.size
            and not any(arguments.get(each) is not None for each in self.aside)
        )


class Passes:
    """Decides for each call of the pipeline's own whether the network runs; a `Recorder` asks.

    Attributes:
        spared, skipped: evaluations of this run that were answered, and unconditional passes that were left out.
        skipping: whether the unconditional pass was left out in this step.
    """

    def __init__(self):
        self._stand_ins: dict[torch.nn.Module, Replacement] = {}
        self.reset()

    def reset(self) -> None:
        """A run begins."""
        self.spared = self.skipped = 0
        self._understood = True  # whether all arguments could be cut so far
        self.clear()

    def clear(self) -> None:
        """A step ends: forget what the pipeline did not ask for."""
        self.skipping = False
        self._answers: list[Answer] = []
        self._skip: Skip | None = None
        self._first: tuple = ()  # output of the first of two calls
        self._ready: tuple = ()  # the answer to the call that is about to run

    def remove(self) -> None:
        for stand_in in self._stand_ins.values():
            stand_in.undo()
        self._stand_ins.clear()
        self.reset()

    def answer(self, answers: list[Answer]) -> None:
        """In the coming step."""
        for answer in answers:
            self._stand_in(answer.call.module)
        self._answers = answers

    def leave_out(self, skip: Skip, module: torch.nn.Module) -> None:
        """In the coming step, which `module` is expected to make."""
        if not skip.batched:
            self._stand_in(module)
        if self._understood:
            self._skip = skip

    def before(self, name: str, module: torch.nn.Module, arguments: dict) -> tuple[dict | None, After]:
        """Other arguments for a call, or None; and what to do after it."""
        if self._answers:
            answer = self._answers.pop(0)
            if answer.fits(module, arguments) and self._give(module, answer.output):
                return None, self._spared
            self._answers = []
        skip = self._skip
        if skip is None or not skip.concerns(name, arguments):
            return None, _ran
        if skip.batched:
            return self._cut(skip, arguments)
        if not self._first:
            return None, self._remember
        return None, self._left_out if self._give(module, *self._first) else _ran

    def _cut(self, skip: Skip, arguments: dict) -> tuple[dict | None, After]:
        try:
            cut = half(arguments, skip.size, skip.cond_first)
        except UnknownArgument:
            self._understood = False
            return None, _ran
        self.skipping = True
        self.skipped += 1
        return cut, _doubled

    def _stand_in(self, module: torch.nn.Module) -> None:
        if module not in self._stand_ins:
            self._stand_ins[module] = Replacement(module, "forward", self._forward).install()

    def _give(self, module: torch.nn.Module, output: object) -> bool:
        """Have the call that is about to run return `output`, if its forward can be stood in for."""
        if module not in self._stand_ins:
            return False
        self._ready = (threading.get_ident(), output)
        return True

    def _given(self) -> bool:
        """Whether the call returned that; not where somebody replaced the forward since."""
        ready, self._ready = self._ready, ()
        return not ready

    def _forward(self, original: Callable, *args, **kwargs):
        if not self._ready or self._ready[0] != threading.get_ident():
            return original(*args, **kwargs)
        output, self._ready = self._ready[1], ()
        return output

    def _spared(self, output: object) -> tuple[object | None, bool]:
        self.spared += self._given() and not self._answers
        return None, True

    def _remember(self, output: object) -> tuple[object | None, bool]:
        self._first = (output,)
        return None, True

    def _left_out(self, output: object) -> tuple[object | None, bool]:
        given = self._given()
        self.skipping |= given
        self.skipped += given
        return None, not given


def _ran(output: object) -> tuple[object | None, bool]:
    return None, True


def _doubled(output: object) -> tuple[object | None, bool]:
    """Both halves of what the pipeline expects; what it makes of them is not used."""
    if isinstance(output, torch.Tensor):
        return torch.cat([output, output]), True
    if isinstance(output, tuple):
        return (_doubled(output[0])[0], *output[1:]), True
    first, value = next(iter(output.items()))
    return type(output)(**{**output, first: _doubled(value)[0]}), True
