"""The guided pipelines among diffusers' examples/community, loaded from their files."""

import importlib.util
import inspect
import sys
from pathlib import Path

import diffusers

from .coverage_classes import combines


def community_classes(checkout: Path) -> dict[str, type | str]:
    """The classes in `checkout` that combine predictions, as FILE.CLASS; for a file that cannot be imported, by its
    own name, the reason."""
    found: dict[str, type | str] = {}
    for path in sorted((checkout / "examples/community").glob("*.py")):
        if "DiffusionPipeline" not in path.read_text(encoding="utf-8"):
            continue
        try:
            kinds = _classes(path)
        except BaseException as error:  # some leave the interpreter
            found[path.stem] = f"{type(error).__name__}: {error}".split("\n")[0][:200]
            continue
        found |= {f"{path.stem}.{kind.__name__}": kind for kind in kinds if combines(kind)}
    return found


def _classes(path: Path) -> list[type]:
    name = f"community_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kinds = [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == name]
    return [kind for kind in kinds if issubclass(kind, diffusers.DiffusionPipeline)]
