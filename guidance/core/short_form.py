"""Arguments as they are typed: `ARGUMENT=VALUE,ARGUMENT=VALUE`, where a value is JSON or text."""

import json

from .json_files import parse_json


MAX_TEXT = 100_000  # characters


def parse_arguments(text: str) -> dict[str, object]:
    """name -> value; commas within brackets and quotes do not separate.

    Raises:
        ValueError: a part without `=`, a value that `parse_value` refuses, or more than `MAX_TEXT` characters.
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"{text[:40]!r}... has {len(text)} characters; {MAX_TEXT} are read, so give a file instead")
    arguments: dict[str, object] = {}
    for part in _parts(text):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError(f"cannot read {part[:50]!r} in {text[:100]!r}; write NAME:ARGUMENT=VALUE,ARGUMENT=VALUE")
        try:
            arguments[name.strip()] = parse_value(value.strip())
        except ValueError as error:
            raise ValueError(f"{name.strip()}: {error}") from None
    return arguments


def parse_value(text: str) -> object:
    """JSON, or the text itself where it is not JSON. Raises ValueError for NaN, infinity, and JSON nested too deep."""
    try:
        return parse_json(text)
    except json.JSONDecodeError:
        return text


def _parts(text: str) -> list[str]:
    """`text` cut at its commas, in one pass."""
    parts, start, depth, quoted = [], 0, 0, False
    for position, character in enumerate(text):
        quoted ^= character == '"'
        if quoted:
            continue
        depth = max(0, depth + (character in "[{") - (character in "]}"))
        if character == "," and not depth:
            parts.append(text[start:position])
            start = position + 1
    return [part for part in [*parts, text[start:]] if part.strip()]
