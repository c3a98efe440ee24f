"""What command lines say in text: prompts in a file, arguments of a pipeline's call, lists of numbers."""

import json
from collections.abc import Iterable
from pathlib import Path


def read_prompts(path: Path) -> list[str]:
    """The lines of a text file that are not blank, ended by LF or CR LF alone; a byte order mark is left out.

    Raises:
        ValueError: there is no such line, or the file is not text in UTF-8.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}); save it as UTF-8") from None
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    if not any(lines):
        raise ValueError(f"{path} holds no prompt")
    return [line for line in lines if line]


def parse_call(texts: Iterable[str]) -> dict[str, object]:
    """Arguments from texts `NAME=VALUE`; a value that is no JSON is a string. Raises ValueError without `=`."""
    call = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"cannot read --call {text!r}; write NAME=VALUE")
        try:
            call[name] = json.loads(value)
        except json.JSONDecodeError:
            call[name] = value
    return call


def parse_numbers(option: str, text: str, kind: type) -> list:
    """Numbers of `kind` from a text such as `1,2,4`. Raises ValueError that names the `option`."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"cannot read {option} {text!r}; write numbers such as 1,2,4") from None
