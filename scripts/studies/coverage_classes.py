"""Which classes guide: pipelines of the installed diffusers whose source combines predictions, and their siblings."""

import inspect
import re
import sys
from pathlib import Path

import diffusers


_COMBINES = re.compile(
    r"(guidance|cfg|scale\w*|weight|\bgw)\w*(\[[^\]]*\])?(\s*[+-]\s*1(\.0)?)?\)?\s*\*\s*(\(|\w*(text|cond|pos)\w*)|self\.guider|lerp\("
    r"|\)\s*\*\s*(self\.)?_?\w*(guidance|cfg)|normalized_guidance\("
)


def guided_classes() -> dict[str, type]:
    """The classes, by name, that step a scheduler with a weighted difference of predictions; not the deprecated.

    Looked at are the class, its base classes in diffusers' pipelines, and the functions of its module.
    """
    return {name: kind for name, kind in pipeline_classes().items() if combines(kind)}


def pipeline_classes() -> dict[str, type]:
    """All pipeline classes of the installed diffusers by name; not the deprecated."""
    found = {}
    for name in dir(diffusers):
        kind = getattr(diffusers, name, None)
        if not (inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline)):
            continue
        deprecated = ".deprecated." in kind.__module__ or any("Deprecated" in base.__name__ for base in kind.__mro__)
        if not deprecated and kind is not diffusers.DiffusionPipeline:
            found[name] = kind
    return found


def combines(kind: type) -> bool:
    """Whether the source of `kind` steps a scheduler, and has a weighted difference of two predictions."""
    bases = [base for base in kind.__mro__ if base.__module__.startswith("diffusers.pipelines.")]
    bases = [base for base in bases if base is not diffusers.DiffusionPipeline]
    functions = [each for each in vars(sys.modules[kind.__module__]).values() if inspect.isfunction(each)]
    own = [each for each in functions if each.__module__ == kind.__module__]
    source = "\n".join(_code(each) for each in [*bases, *own])
    return ".step(" in source and _COMBINES.search(source) is not None


def _code(source_of: object) -> str:
    """The source without its docstrings, which have formulas of their own."""
    return re.sub(r'r?"""(.|\n)*?"""', "", inspect.getsource(source_of))


def tests_by_class(checkout: Path) -> dict[str, list[str]]:
    """Modules of the tests in `checkout`, by the pipeline class that they are about."""
    found: dict[str, list[str]] = {}
    for path in sorted((checkout / "tests/pipelines").glob("*/test_*.py")):
        module = ".".join(path.relative_to(checkout).with_suffix("").parts)
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"^    pipeline_class = (\w+)", text, flags=re.M):
            name = name.removesuffix("Wrapper")
            if "get_dummy_components" in text and module not in found.setdefault(name, []):
                found[name].append(module)
    return found


def siblings(kind: type, tested: dict[str, list[str]], most: int = 4) -> list[str]:
    """The tested classes that are built most like `kind`, best first: with most of its arguments, and fewest others."""
    wanted = _arguments(kind)
    ranked = []
    for name in tested:
        has = _arguments(getattr(diffusers, name, object))
        shared = sum(has.get(key) == value for key, value in wanted.items())
        package = getattr(diffusers, name, object).__module__.split(".")[:3] == kind.__module__.split(".")[:3]
        if shared >= 2 and name != kind.__name__:
            ranked.append((-shared, not package, len(has.keys() - wanted.keys()), name))
    return [name for *_, name in sorted(ranked)[:most]]


def _arguments(kind: type) -> dict[str, str]:
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return {each.name: getattr(each.annotation, "__name__", str(each.annotation)) for each in parameters}
