"""Evaluate a network without disturbing what caches keep of the pipeline's own calls."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Isolation:
    """What keeps state between the calls of one network, found by what was done to it: state of diffusers' hooks
    (`enable_cache`, `apply_*`), which can be set aside, and replaced `forward` methods, which can not.

    Attributes:
        keeps_state: whether there is anything of the kind.
    """

    def __init__(self, module: torch.nn.Module):
        parts = [getattr(part, "_orig_mod", part) for part in module.modules()]
        self._holders = list(_holders(parts))
        self._replaced = next(filter(None, map(_replaced_forward, parts)), None)

    @property
    def keeps_state(self) -> bool:
        return bool(self._holders) or self._replaced is not None

    @contextmanager
    def fresh(self) -> Iterator[None]:
        """Within it the network computes everything, and what was kept is as before at the end.

        Raises:
            RuntimeError: somebody replaced a `forward`; what it keeps cannot be known.
        """
        if self._replaced is not None:
            raise RuntimeError(
                f"a callback evaluates the network once more, and {self._replaced} was replaced, as caches do that "
                "count the pipeline's own evaluations; remove it first, or use a cache of diffusers (enable_cache)"
            )
        kept = [(holder, name, getattr(holder, name)) for holder, name in self._holders]
        empty: dict[int, object] = {}  # hooks share what they keep
        try:
            for holder, name, state in kept:
                setattr(holder, name, empty.setdefault(id(state), _emptied(state)))
            yield
        finally:
            for holder, name, state in kept:
                setattr(holder, name, state)


def _holders(parts: list[torch.nn.Module]) -> Iterator[tuple[object, str]]:
    from diffusers.hooks.hooks import HookRegistry, StateManager

    for registry in (getattr(part, "_diffusers_hook", None) for part in parts):
        for hook in registry.hooks.values() if isinstance(registry, HookRegistry) else ():
            for name, value in vars(hook).items():
                if isinstance(value, StateManager) or (hook._is_stateful and hasattr(value, "reset")):
                    yield hook, name


def _emptied(state: Any) -> object:
    from diffusers.hooks.hooks import CacheContext, StateManager

    if not isinstance(state, StateManager):
        return type(state)()
    fresh = StateManager(state._state_cls, state._init_args, state._init_kwargs)
    fresh.set_context(CacheContext("guidance"))
    return fresh


def _replaced_forward(part: torch.nn.Module) -> str | None:
    """What somebody put in the place of the `forward` of `part`, or of all of its class, and what it replaced."""
    name = f"{type(part).__name__}.forward"
    own = vars(part).get("forward")
    if own is not None and not _known(part, own):
        return f"the {name} of this network"
    owner = next(cls for cls in type(part).__mro__ if "forward" in vars(cls))
    where = getattr(vars(owner)["forward"], "__module__", None) or owner.__module__
    if owner.__module__.startswith("diffusers.") and not where.startswith(("diffusers.", "torch.")):
        return name
    return None


def _known(part: torch.nn.Module, forward: object) -> bool:
    """Whether those who replace a forward without keeping anything did: offloading, hooks of diffusers, compilation."""
    from .replacement import Replacement

    if getattr(forward, "__func__", None) is type(part).forward:
        return True  # put back by diffusers' hooks
    hooked = getattr(getattr(part, "_diffusers_hook", None), "hooks", None)  # a registry of hooks may be empty
    if hasattr(part, "_hf_hook") or hooked or isinstance(forward, Replacement):
        return True
    while isinstance(forward, functools.partial):
        forward = forward.func
    return hasattr(forward, "_torchdynamo_orig_callable")
