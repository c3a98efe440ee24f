"""The networks of a pipeline, watched: what the pipeline called them with since its scheduler's last step."""

import functools
import inspect
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from .arguments import copied
from .families import Call, prediction_of
from .families.observed import Output
from .hooks import Hooks
from .passes import Passes
from .unstepped import MOST


_KEPT = MOST + 1  # calls since a step; a loop written by hand may make any number


class Recorder:
    """Watches `networks` (name -> module) of a pipeline and keeps the calls that belong to its run, since the last
    `clear`; all others are let through untouched.

    Args:
        belongs: whether the call that is being made belongs to the run.
        passes: asked before each call, and called after those that it answers.

    Attributes:
        calls: in order.
        paused: whether calls are the callbacks' own; see `pause`.
    """

    def __init__(self, networks: dict[str, torch.nn.Module], belongs: Callable[[], bool], passes: Passes):
        self._belongs, self._passes = belongs, passes
        self.calls: deque[Call] = deque(maxlen=_KEPT)
        self.paused = False
        self._entered: tuple[int, str, torch.nn.Module, dict, bool] | None = None
        self._names = {module: argument_names(module) for module in networks.values()}
        self._hooks = {
            name: Hooks(module, functools.partial(self._before, name), self._after) for name, module in networks.items()
        }

    def install(self) -> None:
        for hooks in self._hooks.values():
            hooks.install()

    @property
    def networks(self) -> list[torch.nn.Module]:
        """Those that are watched."""
        return [hooks.module for hooks in self._hooks.values()]

    def keep_only(self, *names: str | None) -> None:
        """Watch no longer what is not called one of `names`."""
        for name in [name for name in self._hooks if name not in names]:
            self._hooks.pop(name).remove()

    def remove(self) -> None:
        for hooks in self._hooks.values():
            hooks.remove()
        self.clear()

    def clear(self) -> None:
        self.calls.clear()
        self._entered = None

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Context in which calls are the callbacks' own."""
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before

    def _before(self, name: str, module: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        thread = threading.get_ident()
        if self._entered is not None and self._entered[0] == thread:
            self._entered = None  # of a call that broke off
        if self.paused or not self._belongs():
            return
        # Networks and pipelines change the lists and dictionaries that they hand over.
        arguments = {key: copied(value) for key, value in by_name(self._names[module], args, kwargs).items()}
        self._entered = (thread, name, module, arguments, self._passes.before(module, arguments, len(self.calls)))

    def _after(self, module: torch.nn.Module, output: object) -> None:
        entered = self._entered
        if entered is None or entered[2] is not module or entered[0] != threading.get_ident():
            return
        _, name, _, arguments, answered = entered
        self._entered = None
        if answered:
            self._passes.after()
        self.calls.append(Call(module, arguments, kept(output, module), name, output))


def argument_names(module: torch.nn.Module) -> tuple[str, ...]:
    """Names of the arguments of a network, in order; those of its class where a stand-in for `forward` shows none."""
    network = getattr(module, "_orig_mod", module)
    names = tuple(inspect.signature(network.forward).parameters)
    return names_of(type(network).forward)[1:] if {"args", "kwargs"} & set(names) else names


def names_of(function: Callable) -> tuple[str, ...]:
    """Names of the arguments of `function`, in order."""
    return tuple(inspect.signature(function).parameters)


def by_name(names: tuple[str, ...], args: tuple, kwargs: dict) -> dict:
    """The arguments of a call by name: what `inspect.Signature.bind` does in many times the time."""
    return dict(zip(names, args, strict=False)) | kwargs


def is_compiled(module: torch.nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def kept(output: object, module: torch.nn.Module) -> Output:
    """The prediction in what `module` returned, kept from being written over by the next replay of a CUDA graph."""
    prediction = prediction_of(output)
    return prediction.clone() if is_compiled(module) and isinstance(prediction, torch.Tensor) else prediction
