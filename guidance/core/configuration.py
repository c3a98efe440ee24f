"""Guidance as data: to JSON and back, and from the short form used on command lines."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from .callback import Callback, Guide, as_list, settings
from .files import write_json
from .groups import grouped, parameters
from .json_files import read_json
from .kinds import find_kind, known_kinds
from .short_form import parse_arguments
from .trust import require_plain


MAX_BYTES = 1 << 20  # of a file


def to_config(callbacks: Guide | Iterable[Guide]) -> list[dict]:
    """JSON-serialisable description of `callbacks`: a list of `{"callback": name, argument: value, ...}`.

    Raises:
        ValueError: a callback is a plain function, or an argument is not JSON (a function as a schedule, a module);
            the message names it.
    """
    config = []
    for callback in as_list(callbacks):
        if not isinstance(callback, Callback):
            raise ValueError(f"{callback!r} is a plain function and cannot be saved; make it a subclass of Callback")
        entry = {"callback": type(callback).__name__, **settings(callback)}
        for name, value in entry.items():
            try:
                json.dumps(value)
            except TypeError as error:
                raise ValueError(
                    f"{type(callback).__name__}({name}={value!r}) cannot be saved: {error}. Give numbers instead of a "
                    "function (one per step), or leave this callback out of what is saved."
                ) from None
        config.append(entry)
    return config


def from_config(config: list[dict]) -> list[Callback]:
    """The callbacks that `to_config` described.

    Raises:
        ValueError: an unknown callback or argument; the message lists the known ones.
    """
    _check(config)
    return [_build(str(entry["callback"]), {k: v for k, v in entry.items() if k != "callback"}) for entry in config]


def save_guidance(path: str | os.PathLike, callbacks: Guide | Iterable[Guide]) -> Path:
    """Write `callbacks` to the JSON file `path`; `load_guidance` reads it back."""
    return write_json(path, to_config(callbacks))


def load_guidance(path: str | os.PathLike) -> list[Callback]:
    """The callbacks that `save_guidance` wrote.

    Whoever names the file trusts it: its callbacks may load the networks that they name, from safetensors only. A file
    that comes along with a checkpoint is another matter, see `load_accompanying`.

    Raises:
        ValueError: the file is not readable as JSON, or is not a guidance configuration.
    """
    return from_config(_read(path))


def load_accompanying(path: str | os.PathLike, trust_guidance: bool = False) -> list[Callback]:
    """The callbacks of a file that lies next to a checkpoint and was not named by the user.

    Args:
        trust_guidance: also take callbacks that name files, networks or libraries; see `trust`.

    Raises:
        ValueError: as `load_guidance`; or a callback that needs trust, in one sentence that names it.
    """
    config = _read(path)
    _check(config)
    if not trust_guidance:
        require_plain(config, path)
    return from_config(config)


def parse_guidance(text: str) -> Callback:
    """One callback from its short form: `raag`, `raag:w_max=18,alpha=12`, `cfg:weight=[7,5,3]`.

    Names are those of the classes, in any case and with or without hyphens (`cfg-norm`); values are JSON, and anything
    else is a string.

    Raises:
        ValueError: an unknown name or argument, a value out of range, or what `parse_arguments` refuses.
    """
    name, _, rest = text.partition(":")
    return _build(name.strip(), parse_arguments(rest))


def _read(path: str | os.PathLike) -> list:
    try:
        return read_json(path, MAX_BYTES)
    except ValueError as error:
        raise ValueError(f"cannot read guidance from {path}: {error}") from None


def _check(config: object) -> None:
    if not isinstance(config, list):
        raise ValueError(f"a guidance configuration is a list of callbacks, got {type(config).__name__}")
    for entry in config:
        if not isinstance(entry, dict) or "callback" not in entry:
            raise ValueError(
                f'each callback is written {{"callback": NAME, ARGUMENT: VALUE, ...}}, got {str(entry)[:200]}'
            )


def _build(name: str, arguments: dict) -> Callback:
    kind = find_kind(name)
    if kind is None:
        raise ValueError(f"unknown guidance {name[:50]!r}; known are {', '.join(sorted(known_kinds()))}")
    known = parameters(kind)
    if unknown := set(arguments) - set(known):
        raise ValueError(f"{name} has no argument {', '.join(sorted(unknown))}; it takes {', '.join(known)}")
    try:
        return kind(**grouped(kind, arguments))
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
