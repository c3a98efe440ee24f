"""Code of the user's own, which a command line may name. Files never do."""

import importlib
import os
import sys
from typing import Any


def from_module(module: str, name: str, option: str) -> Any:
    """`name` of `module`, which is imported; the working directory is searched last.

    Args:
        option: of the command line that names it, for messages.

    Raises:
        ValueError: the module or the name is not there.
    """
    if (folder := os.getcwd()) not in sys.path:
        sys.path.append(folder)
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ValueError(f"{option} cannot import {module!r}: {error}") from None
    except AttributeError:
        raise ValueError(f"{option}: {module} has no {name!r}") from None
