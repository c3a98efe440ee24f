"""Names of a package that are loaded when they are asked for, so that importing the package costs nothing."""

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .extras import naming_the_extra


def lazy(
    package: str, file: str, find: Callable[[str], object] = lambda name: None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package whose imports stand under `if TYPE_CHECKING:` in its `__init__.py`.

    The imports are read from there, so that they are written once, where type checkers and editors see them too. A name
    must not be that of a submodule of the same package: once loaded, the submodule would take its place.

    Args:
        package, file: `__name__` and `__file__` of the package.
        find: what else the package has under a name, or None.
    """
    homes = _imports(Path(file).read_text(encoding="utf-8"))

    def load(name: str) -> Any:
        with naming_the_extra():
            value = getattr(importlib.import_module(homes[name], package), name) if name in homes else find(name)
        if value is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)  # from now on without this function
        return value

    return load, lambda: sorted({*vars(sys.modules[package]), *homes})


def _imports(source: str) -> dict[str, str]:
    """Name -> relative module of every import under `if TYPE_CHECKING:`."""
    blocks = [node for node in ast.parse(source).body if isinstance(node, ast.If)]
    checked = [block for block in blocks if isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"]
    imports = [node for block in checked for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: "." * node.level + (node.module or "") for node in imports for alias in node.names}
