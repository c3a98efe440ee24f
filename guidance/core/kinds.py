"""Callbacks by name. Those of the package are found by walking its folder of methods: there is no list to edit."""

import importlib
import pkgutil
from functools import cache

from .callback import Callback


#: Of this package: every module below `methods` is searched, and the one with the guiders of diffusers.
_METHODS, _GUIDERS = "diffusion_guidance.methods", "diffusion_guidance.attachment.guiders"
_JOINED = str.maketrans("", "", "-_")


def find_kind(name: str) -> type[Callback] | None:
    """The callback class called `name`, in any case, or None; hyphens and underscores do not count.

    Only modules of this package are imported.
    """
    name = folded(name)
    return Callback.kinds.get(name) or known_kinds().get(name)


def folded(name: str) -> str:
    """`name` as names are compared: in lower case, without hyphens and underscores."""
    return name.lower().translate(_JOINED)


def known_kinds() -> dict[str, type[Callback]]:
    """Every callback class there is, by its name in lower case: the package's own, and those defined since."""
    _load()
    return Callback.kinds


@cache
def _load() -> None:
    methods = importlib.import_module(_METHODS)
    for module in pkgutil.walk_packages(methods.__path__, f"{_METHODS}."):
        importlib.import_module(module.name)
    importlib.import_module(_GUIDERS)
