"""What a network keeps between its calls, other than parameters and buffers: third-party caches are recognised by it.

They keep tensors, and counts next to them, in hooks, in attention processors and in attributes of modules.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from .leaves import Mark, is_library, leaves_of


HOOKS, OTHERS, ALL = 0, 1, 2
"""What is looked at: hooks and callables that somebody put on the network; attributes of modules, too, that are not the
libraries' or carry such hooks; attributes of all other modules, too."""

_NOT_STATE = frozenset(vars(torch.nn.Module())) | {"_diffusers_hook", "_hf_hook", "_internal_dict"}
_NOT_STATE |= {"forward", "_old_forward", "_compiled_call_impl"}  # what was replaced is refused, see `Isolation`
_NO_CALLABLES = {bool, int, float, str, tuple, list, dict, type(None), torch.Tensor, torch.dtype}
_is_library = functools.lru_cache(1024)(is_library)


@dataclass(frozen=True)
class Held:
    """What one hook or one attribute of a module keeps.

    Attributes:
        kind: HOOKS, OTHERS or ALL: the least for which it is looked at.
        where: in words.
        holder: the hook or the attribute.
        leaves: see `leaves_of`.
    """

    kind: int
    where: str
    holder: object
    leaves: dict[str, object]


Snapshot = dict[tuple[torch.nn.Module, str, int], Held]


def snapshot(network: torch.nn.Module, much: int) -> Snapshot:
    """What `network` keeps now. The device is not read; the tensors are held, so that they can be told from new ones.

    Args:
        much: HOOKS, OTHERS or ALL.
    """
    found: Snapshot = {}
    for part in _parts(network):
        if much < ALL and _is_plain(part):
            continue
        for kind, where, holder in _holders(part, much):
            held = Held(kind, where, holder, leaves_of(_state_of(holder)))
            if held.leaves or kind == HOOKS:
                found[part, where, id(holder) if kind == HOOKS else 0] = held
    return found


@dataclass(frozen=True)
class Change:
    """What one module keeps otherwise than before.

    Attributes:
        module: the module.
        kind: see `Held`.
        where: in words.
        of_tensor: whether a tensor came, went, or was written to; otherwise it is a number.
    """

    module: torch.nn.Module
    kind: int
    where: str
    of_tensor: bool


def changes(network: torch.nn.Module, before: Snapshot, after: Snapshot) -> Iterator[Change]:
    """What `network` keeps otherwise than `before`. Hooks that were put on or taken off meanwhile do not count."""
    for key in before | after:
        held, both = before.get(key) or after[key], key in before and key in after
        if held.kind == HOOKS and not both:
            continue
        one, other = (each[key].leaves if key in each else {} for each in (before, after))
        for name in sorted(one.keys() | other.keys()):
            if name not in one or name not in other or one[name] != other[name]:
                of_tensor = isinstance(one.get(name), Mark) or isinstance(other.get(name), Mark)
                yield Change(key[0], held.kind, f"{held.where}{name} of {_name(network, key[0])}", of_tensor)


def _parts(network: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """What `network.modules()` gives, in a third of the time."""
    todo: list[torch.nn.Module | None] = [network]
    seen = set()
    while todo:
        part = todo.pop()
        if part is not None and part not in seen:
            seen.add(part)
            todo += part._modules.values()
            yield part


def _is_plain(part: torch.nn.Module) -> bool:
    """Whether it is a library's module with nothing put on; a quick look, since most are."""
    own = vars(part)
    if part._forward_pre_hooks or part._forward_hooks or "_diffusers_hook" in own:
        return False
    for name in own.keys() - _NOT_STATE:
        value = own.get(name)
        if type(value) not in _NO_CALLABLES and callable(value) and _is_put_on(value):
            return False
    return _is_library(type(part).forward)


def _holders(part: torch.nn.Module, much: int) -> Iterator[tuple[int, str, object]]:
    """(kind, in words, the hook or attribute) of what `part` carries that may keep something."""
    carried = list(_hooks(part))
    for hook in carried:
        yield HOOKS, f"the hook {getattr(hook, '__qualname__', type(hook).__qualname__)}", hook
    attributes = {name: value for name in vars(part).keys() - _NOT_STATE for value in [vars(part).get(name)]}
    put_on = [name for name, value in attributes.items() if callable(value) and _is_put_on(value)]
    yield from ((HOOKS, f"the attribute {name}", attributes.pop(name)) for name in put_on)
    others = bool(carried or put_on) or not _is_library(type(part).forward)
    if others and much >= OTHERS:
        yield OTHERS, "the forward", type(part).forward
    if (kind := OTHERS if others else ALL) <= much:
        yield from ((kind, f"the attribute {name}", value) for name, value in attributes.items())


def _is_put_on(function: object) -> bool:
    return not isinstance(function, torch.nn.Module | type) and not is_library(function)


def _hooks(part: torch.nn.Module) -> Iterator[object]:
    """The hooks that are not the libraries' own."""
    for hooks in filter(None, (part._forward_pre_hooks, part._forward_hooks)):
        yield from (hook for hook in list(hooks.values()) if not is_library(hook))
    registry = vars(part).get("_diffusers_hook")
    yield from () if registry is None else (hook for hook in list(registry.hooks.values()) if not is_library(hook))


def _state_of(holder: object) -> object:
    """What may keep something in a hook or an attribute: not what diffusers' hooks can set aside, see `Isolation`."""
    if not getattr(holder, "_is_stateful", False):
        return holder
    return SimpleNamespace(**{name: value for name, value in vars(holder).items() if not hasattr(value, "reset")})


def _name(network: torch.nn.Module, module: torch.nn.Module) -> str:
    names = [name for name, part in network.named_modules() if part is module]
    return f"{names[0]} ({type(module).__name__})" if names and names[0] else type(module).__name__
