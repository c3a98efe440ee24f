"""Evaluate a network without disturbing what caches keep of the pipeline's own calls."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from .arguments import copied
from .leaves import is_library
from .snapshot import ALL, HOOKS, OTHERS, Change, Snapshot, changes, snapshot


class Isolation:
    """What keeps state between the calls of one network, found by what was done to it: state of diffusers' hooks
    (`enable_cache`, `apply_*`), which can be set aside; replaced `forward` methods, and tensors that other hooks,
    attention processors and attributes keep, which can not.

    Args:
        began: what other hooks and modules kept when the run began; None where that is not to be looked at.
    """

    def __init__(self, module: torch.nn.Module, began: Snapshot | None = None):
        parts = [getattr(part, "_orig_mod", part) for part in module.modules()]
        self._module, self._began, self._seen_again = module, began, began is None
        self._holders = list(_holders(parts))
        self._replaced = next(filter(None, map(_replaced_forward, parts)), None)

    @property
    def keeps_state(self) -> bool:
        """Whether there is anything of the kind."""
        return bool(self._holders) or self._replaced is not None or bool(self._since_began())

    def evaluate(self, arguments: dict) -> object:
        """What the network returns for `arguments`, once more than the pipeline calls it. It computes everything, and
        what is kept is as before at the end. The first time, that is looked at.

        Raises:
            RuntimeError: somebody replaced a `forward`, or something keeps tensors that this evaluation would change,
                or changed.
        """
        if self._replaced is not None:
            raise RuntimeError(
                f"a callback evaluates the network once more, and {self._replaced} was replaced, as caches do that "
                "count the pipeline's own evaluations; remove it first, or use a cache of diffusers (enable_cache)"
            )
        if self._seen_again:
            return self._call(arguments)
        self._seen_again, since = True, self._since_began()
        _refuse([change for change in since if change.kind == HOOKS])
        caching = {change.module for change in since}
        result, found = self._watched(arguments, caching)
        if found:  # what is derived from the arguments is derived once
            result, found = self._watched(arguments, caching)
            _refuse(found)
        return result

    def _since_began(self) -> list[Change]:
        if self._began is None:
            return []
        found = changes(self._module, self._began, snapshot(self._module, OTHERS))
        return [change for change in found if change.of_tensor]

    def _call(self, arguments: dict) -> object:
        with self._fresh():
            return self._module(**copied(arguments))

    def _watched(self, arguments: dict, caching: set[torch.nn.Module]) -> tuple[object, list[Change]]:
        """What the network returns, and what that changed: tensors, and numbers of the modules in `caching`. What
        counts calls and keeps no result of theirs is not a cache."""
        before = snapshot(self._module, ALL)
        result = self._call(arguments)
        found = changes(self._module, before, snapshot(self._module, ALL))
        return result, [change for change in found if change.of_tensor or change.module in caching]

    @contextmanager
    def _fresh(self) -> Iterator[None]:
        held = [(holder, name, getattr(holder, name)) for holder, name in self._holders]
        empty: dict[int, object] = {}  # hooks share what they keep
        try:
            for holder, name, state in held:
                setattr(holder, name, empty.setdefault(id(state), _emptied(state)))
            yield
        finally:
            for holder, name, state in held:
                setattr(holder, name, state)


def _refuse(found: list[Change]) -> None:
    if found:
        raise RuntimeError(
            f"a callback evaluates the network once more, and {found[0].where} changes with each evaluation, as "
            "caches do; remove it first, or use a cache of diffusers (enable_cache); if it only watches, pass "
            "attach(..., verify=False)"
        )


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
    if owner.__module__.startswith("diffusers.") and not is_library(vars(owner)["forward"]):
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
