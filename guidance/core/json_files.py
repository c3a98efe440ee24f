"""Reading JSON that others wrote: limits on size and depth, and one sentence for whatever is wrong."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


MAX_JSON_BYTES = 1 << 26  # 64 MB: reports of long sweeps are the largest files of ours
MAX_JSON_DEPTH = 64


def read_json(path: str | os.PathLike, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: the file cannot be read, is larger than `max_bytes`, is not JSON, is nested deeper than
            `MAX_JSON_DEPTH`, or holds NaN or infinity; in one sentence that does not name the file.
    """
    try:
        if os.stat(path).st_size > max_bytes:
            raise ValueError(f"larger than {max_bytes} bytes")
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(error.strerror or type(error).__name__) from None
    return parse_json(text)


def read_settings_file(path: str | os.PathLike, otherwise: str) -> dict:
    """The JSON object in a file of settings. Raises ValueError, which ends in `otherwise`, for any other file."""
    try:
        found = read_json(path)
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}; {otherwise}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is not a file of settings; {otherwise}")
    return found


def parse_json(text: str) -> Any:
    """What JSON `text` holds. Raises ValueError as `read_json` does."""
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels") from None
    level, depth = [value], 0
    while containers := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > MAX_JSON_DEPTH:
            raise ValueError(f"nested deeper than {MAX_JSON_DEPTH} levels")
        level = [part for each in containers for part in _children(each)]
    return value


def _children(part: dict | list) -> Iterable:
    return part.values() if isinstance(part, dict) else part


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number that JSON has")
