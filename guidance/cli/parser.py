"""The parser of all commands: bad arguments are one sentence, options are written out, help keeps its layout."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar


Value = TypeVar("Value")


class BadArgumentsError(ValueError):
    """What was given cannot be a command."""


class Parser(argparse.ArgumentParser):
    """Raises BadArgumentsError where argparse would print its usage and exit. Options cannot be abbreviated."""

    def __init__(self, **kwargs: Any):
        kwargs.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        raise BadArgumentsError(f"{' '.join(message.split())} (see {self.prog} --help)")


def path(text: str) -> Path:
    """For `add_argument(type=...)`: an empty text would mean the working directory."""
    if not text:
        raise argparse.ArgumentTypeError("an empty path")
    return Path(text)


def kind(convert: Callable[[str], Value]) -> Callable[[str], Value]:
    """`convert` for `add_argument(type=...)`, with the message of its ValueError kept."""

    def converted(text: str) -> Value:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return converted
