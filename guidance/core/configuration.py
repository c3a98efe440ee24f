"""Guidance as data: to JSON and back, and from the short form used on command lines."""

import inspect
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from .callback import Callback, settings
from .files import write_json
from .kinds import find_kind, known_kinds


def to_config(callbacks: Callback | Iterable[Callback]) -> list[dict]:
    """JSON-serialisable description of `callbacks`: a list of `{"callback": name, argument: value, ...}`.

    Raises:
        ValueError: a callback is a plain function, or an argument is not JSON (a function as a schedule, a module);
            the message names it.
    """
    config = []
    for callback in [callbacks] if isinstance(callbacks, Callback) else callbacks:
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
    if not isinstance(config, list):
        raise ValueError(f"a guidance configuration is a list of callbacks, got {type(config).__name__}")
    callbacks = []
    for entry in config:
        if not isinstance(entry, dict) or "callback" not in entry:
            raise ValueError(f'each callback is written {{"callback": NAME, ARGUMENT: VALUE, ...}}, got {entry!r}')
        arguments = {name: value for name, value in entry.items() if name != "callback"}
        callbacks.append(_build(str(entry["callback"]), arguments))
    return callbacks


def save_guidance(path: str | os.PathLike, callbacks: Callback | Iterable[Callback]) -> Path:
    """Write `callbacks` to the JSON file `path`; `load_guidance` reads it back."""
    return write_json(path, to_config(callbacks))


def load_guidance(path: str | os.PathLike) -> list[Callback]:
    """The callbacks that `save_guidance` wrote.

    Raises:
        ValueError: the file is not readable as JSON, or is not a guidance configuration.
    """
    try:
        config = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot read guidance from {path}: {error}") from None
    return from_config(config)


def parse_guidance(text: str) -> Callback:
    """One callback from its short form: `raag`, `raag:w_max=18,alpha=12`, `cfg:weight=[7,5,3]`.

    Names are those of the classes in any case; values are JSON, and anything else is a string.

    Raises:
        ValueError: an unknown name or argument, or a value out of range.
    """
    name, _, rest = text.partition(":")
    arguments = {}
    for part in re.findall(r"(?:\[[^\]]*\]|[^,])+", rest):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"cannot read {part!r} in {text!r}; write NAME:ARGUMENT=VALUE,ARGUMENT=VALUE")
        try:
            arguments[key.strip()] = json.loads(value)
        except json.JSONDecodeError:
            arguments[key.strip()] = value.strip()
    return _build(name.strip(), arguments)


def _build(name: str, arguments: dict) -> Callback:
    kind = find_kind(name)
    if kind is None:
        raise ValueError(f"unknown guidance {name!r}; known are {', '.join(sorted(known_kinds()))}")
    known = [parameter for parameter in inspect.signature(kind.__init__).parameters if parameter != "self"]
    if unknown := set(arguments) - set(known):
        raise ValueError(f"{name} has no argument {', '.join(sorted(unknown))}; it takes {', '.join(known)}")
    try:
        return kind(**arguments)
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
