"""Standing in for one method of one object, so that it can be undone."""

import functools
import threading
from collections.abc import Callable
from typing import Any


LOCK = threading.RLock()


class Replacement:
    """Stands in for one bound method of one object, and passes the original to its stand-in.

    It shows the original's signature, because pipelines look there for `eta` and `generator`. Copies and pickles of
    the owner get the plain method, since a copied stand-in would go on driving the original. Several can stand in for
    one method, and be undone in any order, also where somebody else wrapped them meanwhile: one that is undone passes
    calls through, and goes as soon as it is on top.
    """

    def __init__(self, owner: Any, name: str, stand_in: Callable):
        self._owner, self._name, self._stand_in = owner, name, stand_in
        self._original: Callable  # once it is installed
        self._active = False

    def install(self) -> "Replacement":
        with LOCK:
            original = getattr(self._owner, self._name)
            functools.update_wrapper(self, original, updated=())
            self._before = vars(self._owner).get(self._name)
            self._original, self._active = original, True
            setattr(self._owner, self._name, self)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._active:
            return self._stand_in(self._original, *args, **kwargs)
        self._leave()
        return self._original(*args, **kwargs)

    def __deepcopy__(self, memo: dict) -> Callable:
        copy = memo.get(id(self._owner), self._owner)
        return getattr(type(copy), self._name).__get__(copy)

    def __reduce__(self) -> tuple[Callable, tuple[Any, str]]:
        return _plain, (self._owner, self._name)

    @property
    def in_place(self) -> bool:
        """Whether a call of the owner's method reaches this stand-in, as far as stand-ins lead."""
        current = vars(self._owner).get(self._name)
        while isinstance(current, Replacement) and current is not self:
            current = current._before
        return current is self

    def undo(self) -> None:
        """Restore the method. Undoing twice, or before it is installed, does nothing."""
        self._active = False
        self._leave()

    def _leave(self) -> None:
        with LOCK:
            if vars(self._owner).get(self._name) is not self:
                return
            before = self._before
            while isinstance(before, Replacement) and not before._active:
                before = before._before
            if before is None:
                delattr(self._owner, self._name)
            else:
                setattr(self._owner, self._name, before)


def _plain(owner: Any, name: str) -> Callable:
    return getattr(type(owner), name).__get__(owner)
