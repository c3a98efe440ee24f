"""What command lines say in text, as values: seeds, prompts in a file, arguments of a pipeline's call, numbers.

Each function raises ValueError with one sentence that says what to write. Nothing here is slow to import.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from ..core.short_form import parse_value


MOST = 10_000_000  # seeds or class ids in one command
HIGHEST = 2**63 - 1  # what torch takes as a seed

#: Arguments of a pipeline's call that a command sets itself, and what to use in their place.
RESERVED = {
    "class_labels": "--classes",
    "generator": "--seeds",
    "guidance": "--guidance",
    "guidance_scale": "--weight",
    "num_images_per_prompt": "--seeds",
    "num_inference_steps": "--steps",
    "output_type": None,
    "prompt": "--prompt or --prompts",
    "return_dict": None,
}


def parse_ids(text: str, what: str = "seeds") -> list[int]:
    """Whole numbers from `0-63`, `7` or `0-9,20,30-39`; `what` they are goes into messages.

    Raises:
        ValueError: something else, a range that runs backwards, a number given twice, or too many.
    """
    ranges = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        numbers = [first, last] if dash else [first]
        if not all(number.isascii() and number.isdigit() and len(number) < 20 for number in numbers):
            raise ValueError(f"cannot read {what} {text[:100]!r}; write for example 0-63 or 0-9,20,30-39")
        one = range(int(first), int(numbers[-1]) + 1)
        if not one or one[-1] > HIGHEST:
            raise ValueError(f"{what} {part.strip()!r} run backwards or beyond {HIGHEST}")
        ranges.append(one)
    if (count := sum(one.stop - one.start for one in ranges)) > MOST:
        raise ValueError(f"{what} {text[:100]!r} are {count:,} numbers; give {MOST:,} at most in one command")
    ids = [number for one in ranges for number in one]
    if len(set(ids)) != len(ids):
        raise ValueError(f"{what} {text[:100]!r} name a number twice")
    return ids


def parse_classes(text: str) -> list[int]:
    """Class ids, written as seeds are."""
    return parse_ids(text, "class ids")


def read_prompts(path: Path) -> list[str]:
    """The lines of a text file that are not blank, ended by LF or CR LF alone; a byte order mark is left out.

    Raises:
        ValueError: there is no such line, or the file cannot be read, or is not text in UTF-8.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 ({error}); save it as UTF-8") from None
    except OSError as error:
        raise ValueError(f"cannot read prompts from {path}: {error.strerror}") from None
    lines = [line.strip(" \t\r") for line in text.split("\n")]
    if not any(lines):
        raise ValueError(f"{path} holds no prompt")
    return [line for line in lines if line]


def parse_call(texts: Iterable[str]) -> dict[str, object]:
    """Arguments of a pipeline's call from texts `NAME=VALUE`.

    Raises:
        ValueError: no `=`, a name given twice, or an argument that the command sets itself.
    """
    call: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"cannot read --call {text[:100]!r}; write NAME=VALUE")
        if name in RESERVED:
            other = RESERVED[name]
            raise ValueError(f"--call {name}= is set by this command" + (f"; use {other}" if other else ""))
        if name in call:
            raise ValueError(f"--call gives {name} twice")
        try:
            call[name] = parse_value(value)
        except ValueError as error:
            raise ValueError(f"--call {name}: {error}") from None
    return call


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"must be a finite number, got {text}")
    return value


def at_least(lowest: int) -> Callable[[str], int]:
    """Of a text, the whole number that is `lowest` or more."""

    def whole(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"{text!r} is not a whole number") from None
        if not lowest <= value <= HIGHEST:
            raise ValueError(f"must be at least {lowest}, got {text}" if value < lowest else f"{text} is too large")
        return value

    return whole


def parse_numbers(text: str, kind: Callable[[str], float] = number) -> list:
    """Numbers from a text such as `1,2,4`, each by `kind`."""
    return [kind(part.strip()) for part in text.split(",")]
