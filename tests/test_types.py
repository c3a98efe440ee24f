"""Types: mypy passes on the package, and everything public is annotated."""

import importlib
import inspect
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import diffusion_guidance


ROOT = Path(__file__).parent.parent


def mypy(folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", folder / "cache"]
    return subprocess.run(
        [*command, "-p", "diffusion_guidance"], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )


def test_mypy_passes_and_would_not_with_a_fault(tmp_path):
    package = tmp_path / "diffusion_guidance"  # under its import name, which mypy cannot map to the folder's
    shutil.copytree(ROOT / "guidance", package)
    shutil.copytree(ROOT / "pipelines", package / "pipelines")
    result = mypy(tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    with open(package / "__main__.py", "a") as file:
        file.write('\n\ndef number() -> int:\n    return ""\n\n\ndef bare(value):\n    return value\n')
    result = mypy(tmp_path)
    assert "[return-value]" in result.stdout and "[no-untyped-def]" in result.stdout and result.returncode == 1


def test_everything_public_is_annotated():
    modules = [
        importlib.import_module(module.name)
        for module in pkgutil.walk_packages(diffusion_guidance.__path__, "diffusion_guidance.")
        if not module.name.endswith("__main__")
    ]
    values = [getattr(diffusion_guidance, name) for name in diffusion_guidance.__all__]
    for module in modules:
        values += [
            value
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
    functions = dict.fromkeys(function for value in values for function in _functions(value))
    assert len(functions) > 500
    assert [f"{each.__module__}.{each.__qualname__}" for each in functions if _bare(each)] == []


def _functions(value: object) -> list:
    """A function, or the public ones, and the constructor, that a class defines."""
    if inspect.isfunction(value):
        return [value]
    if not inspect.isclass(value):
        return []
    own = [
        getattr(each, "__func__", getattr(each, "fget", each))
        for name, each in vars(value).items()
        if name in ("__init__", "__call__") or not name.startswith("_")
    ]
    named = [each for each in own if inspect.isfunction(each) and each.__name__ != "<lambda>"]  # a field's default
    return [each for each in named if each.__module__ == value.__module__]


def _bare(function) -> bool:
    """Whether an argument, or what is returned, has no annotation."""
    signature = inspect.signature(function)
    given = [value for name, value in signature.parameters.items() if name not in ("self", "cls")]
    returned = function.__name__ == "__init__" or signature.return_annotation is not signature.empty
    return not returned or any(each.annotation is each.empty for each in given)
