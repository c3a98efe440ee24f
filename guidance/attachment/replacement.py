"""Standing in for one method of one object, so that it can be undone."""

import functools
from collections.abc import Callable


class Replacement:
    """Stands in for one bound method of one object, and passes the original to its stand-in.

    It shows the original's signature, because pipelines look there for `eta` and `generator`; and a deep copy of the
    owner gets the plain method, since a copied stand-in would go on driving the original.
    """

    def __init__(self, owner, name: str, stand_in: Callable):
        original = getattr(owner, name)
        functools.update_wrapper(self, original)
        self._owner, self._name, self._original, self._stand_in = owner, name, original, stand_in
        self._before = owner.__dict__.get(name)
        setattr(owner, name, self)

    def __call__(self, *args, **kwargs):
        return self._stand_in(self._original, *args, **kwargs)

    def __deepcopy__(self, memo: dict):
        copy = memo.get(id(self._owner), self._owner)
        return getattr(type(copy), self._name).__get__(copy)

    def undo(self) -> None:
        if self._before is None:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)
