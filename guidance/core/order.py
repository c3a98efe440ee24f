"""Whether every callback of a list can have an effect. Seen from their code: a combiner never calls `proceed`."""

import dis
from collections.abc import Callable, Sequence
from types import FunctionType

from .callback import Callback, Guide


def asks(callback: Callable) -> bool:
    """Whether `callback` refers to its `proceed`, so that those before it in the list are asked; True if unknown.

    A callback whose settings decide that says it itself, by a property `asks`.
    """
    said = getattr(callback, "asks", None)
    if isinstance(said, bool):
        return said
    function = type(callback).guide if isinstance(callback, Callback) else callback
    if not isinstance(function, FunctionType):
        function = type(function).__call__
    if not isinstance(function, FunctionType):
        return True
    code = function.__code__
    arguments = code.co_varnames[: code.co_argcount]
    if not arguments or code.co_flags & 0x04:  # *args
        return True
    name = arguments[-1] if len(arguments) < 3 else arguments[2]
    found = (instruction.argval for instruction in dis.get_instructions(code))
    return any(name == value or (isinstance(value, tuple) and name in value) for value in found)


def check_order(callbacks: Sequence[Guide]) -> None:
    """Raise ValueError where a callback has no effect: a later one combines the predictions itself, in all its steps.

    The first callback of a list is nearest to the network, so what combines predictions stands first.
    """
    for position, callback in enumerate(callbacks):
        start, stop = _window(callback)
        for later in callbacks[position + 1 :]:
            first, last = _window(later)
            if first <= start and stop <= last and not asks(later):
                raise ValueError(
                    f"{_name(callback)} has no effect before {_name(later)}, which combines the predictions itself; "
                    f"write [{_name(later)}, {_name(callback)}], or leave one of them out"
                )


def _window(callback: Callable) -> tuple[float, float]:
    return (callback.start, callback.stop) if isinstance(callback, Callback) else (0.0, 1.0)


def _name(callback: Callable) -> str:
    return type(callback).__name__ if isinstance(callback, Callback) else getattr(callback, "__name__", repr(callback))
