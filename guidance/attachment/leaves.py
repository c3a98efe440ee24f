"""The tensors and numbers that an object holds, at any depth: in containers, in closures, in attributes."""

import functools
import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice
from types import FunctionType, MethodType, SimpleNamespace

import torch


_LIBRARIES = {
    "accelerate",
    "bitsandbytes",
    "diffusers",
    "diffusion_guidance",
    "peft",
    "torch",
    "torchao",
    "transformers",
}
_LIBRARIES |= sys.stdlib_module_names
_CONTAINERS = list | tuple | set | frozenset | deque
_DEPTH, _MOST = 6, 1000  # of containers within containers, and entries of one


class Mark:
    """A tensor as it is now. Two marks are equal if it is the very same tensor and nobody wrote to it between them."""

    def __init__(self, tensor: torch.Tensor):
        self._tensor = tensor
        # Without a version, in inference mode, changes in place are seen in the values alone.
        self._state = tensor.clone() if tensor.is_inference() else (tensor._version, _address(tensor))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mark) or self._tensor is not other._tensor:
            return False
        if isinstance(self._state, torch.Tensor) and isinstance(other._state, torch.Tensor):
            return torch.equal(self._state, other._state)
        return self._state == other._state

    __hash__ = None  # type: ignore[assignment]


def leaves_of(value: object) -> dict[str, object]:
    """The tensors in `value`, each as a `Mark`, and the numbers, by where they are.

    Modules are not entered, nor objects and functions of the libraries that pipelines are made of.
    """
    return dict(_walk(value, "", set(), _DEPTH))


def is_library(function: object) -> bool:
    """Whether a callable is of the libraries that pipelines are made of, and not one that somebody else wrote. What
    `functools.wraps` says of it does not count."""
    while isinstance(function, functools.partial | MethodType):
        function = function.func if isinstance(function, functools.partial) else function.__func__
    return _root(getattr(function, "__globals__", {}).get("__name__") or type(function).__module__) in _LIBRARIES


def _root(module: str) -> str:
    return module.partition(".")[0]


def _address(tensor: torch.Tensor) -> int:
    try:
        return tensor.data_ptr()
    except RuntimeError:  # a subclass without storage
        return 0


def _walk(value: object, where: str, seen: set[int], depth: int) -> Iterator[tuple[str, object]]:
    if isinstance(value, torch.Tensor):
        yield where, Mark(value)
    elif isinstance(value, bool | int | float | str):
        yield where, value
    elif depth and id(value) not in seen and not isinstance(value, torch.nn.Module | type):
        seen.add(id(value))
        for name, each in _inside(value):
            yield from _walk(each, where + name, seen, depth - 1)


def _inside(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        yield " (length)", len(value)
        for i, (key, each) in enumerate(islice(list(value.items()), _MOST)):
            yield f"[{key!r}]" if isinstance(key, str | int | float) else f"[entry {i}]", each
    elif isinstance(value, _CONTAINERS):
        yield " (length)", len(value)
        yield from ((f"[{i}]", each) for i, each in enumerate(islice(list(value), _MOST)))
    elif isinstance(value, functools.partial):
        yield from ((" (partial)", value.func), (" (arguments)", value.args), (" (arguments)", value.keywords))
    elif isinstance(value, MethodType):
        yield from ((" (self)", value.__self__), (" (method)", value.__func__))
    elif isinstance(value, FunctionType):
        yield from () if is_library(value) else _of_function(value)
    elif isinstance(value, SimpleNamespace) or _root(type(value).__module__) not in _LIBRARIES:
        yield from ((f".{name}", each) for name, each in list(getattr(value, "__dict__", {}).items()))


def _of_function(function: FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield f" (its {name})", cell.cell_contents
        except ValueError:  # not set yet
            continue
    yield " (defaults)", function.__defaults__
    yield " (attributes)", vars(function)
    root = _root(function.__globals__.get("__name__", ""))
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        own = not callable(value) and _root(type(value).__module__) == root  # an object that manages caches
        if own or isinstance(value, torch.Tensor | dict | int | float | _CONTAINERS):
            yield f" (the global {name})", value
