"""Hooks on one network: they see its calls, and leave its copies alone."""

from collections.abc import Callable
from typing import Any

import torch

from .replacement import LOCK, Replacement


class Hooks:
    """Has `before(module, args, kwargs)` and `after(module, output)` called around the calls of `module`, which they
    leave as they are. A network that `module.compile()` compiled is wrapped as a whole, since hooks would be compiled
    with it.
    """

    def __init__(self, module: torch.nn.Module, before: Callable[..., None], after: Callable[..., None]):
        self.module, self._before, self._after = module, before, after
        self._compiled = Replacement(module, "_compiled_call_impl", self._call)

    def install(self) -> None:
        """Do nothing where they are in place; also after the network was compiled, or compiled again, meanwhile."""
        with LOCK:  # threads attach to one network at once, and PyTorch numbers its hooks without a lock
            if getattr(self.module, "_compiled_call_impl", None) is None:
                if not any(hook.owner is self for hook in self._own(self.module._forward_pre_hooks).values()):
                    self.module.register_forward_pre_hook(_Hook(self, self._enter), with_kwargs=True)
                    self.module.register_forward_hook(_Hook(self, self._leave), with_kwargs=True)
            elif not self._compiled.in_place:
                self.remove()
                self._compiled = Replacement(self.module, "_compiled_call_impl", self._call)
                self._compiled.install()

    def remove(self) -> None:
        """Found by looking, so that a second call finds what an interrupt at any line of `install` or of this left."""
        with LOCK:
            self._compiled.undo()
            for hooks in (self.module._forward_pre_hooks, self.module._forward_hooks):
                for key in self._own(hooks):
                    self.module._forward_pre_hooks_with_kwargs.pop(key, None)
                    self.module._forward_hooks_with_kwargs.pop(key, None)
                    hooks.pop(key, None)

    def _own(self, hooks: dict) -> dict:
        return {key: hook for key, hook in list(hooks.items()) if isinstance(hook, _Hook) and hook.owner is self}

    def _enter(self, module: torch.nn.Module, args: tuple, kwargs: dict | None = None) -> None:
        # Without kwargs: another thread is just registering this hook, or removing it. It is not that thread's call.
        if kwargs is not None:
            self._before(module, args, kwargs)

    def _leave(self, module: torch.nn.Module, args: tuple, *rest: Any) -> None:
        if len(rest) == 2:
            self._after(module, rest[1])

    def _call(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        self._before(self.module, args, kwargs)
        output = original(*args, **kwargs)
        self._after(self.module, output)
        return output


class _Hook:
    """A function in a module's dictionary of hooks; in copies and pickles of the module it does nothing."""

    def __init__(self, owner: Hooks, function: Callable):
        self.owner, self._function = owner, function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __deepcopy__(self, memo: dict) -> Callable:
        return nothing

    def __reduce__(self) -> tuple[Callable, tuple[()]]:
        return _nothing, ()


def nothing(*_: Any) -> None:
    """What a hook is in a copy of its network."""


def _nothing() -> Callable:
    return nothing
