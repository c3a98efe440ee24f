"""What can be given to --guidance, read from the sources of the methods: nothing is imported for a --help."""

import ast
from pathlib import Path


METHODS = Path(__file__).resolve().parents[1] / "methods"


def described() -> str:
    """Every callback class below `methods`, in the short form of its name, with its arguments."""
    classes = (
        node
        for file in sorted(METHODS.rglob("*.py"))
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "Callback" for b in node.bases)
    )
    return ", ".join(f"{node.name.lower()} ({', '.join(_arguments(node))})" for node in classes)


def _arguments(kind: ast.ClassDef) -> list[str]:
    """Of the constructor, without the window of steps that every callback takes."""
    constructors = (node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names = [name.arg for node in constructors for name in (*node.args.args, *node.args.kwonlyargs)]
    return [name for name in names if name not in ("self", "start", "stop")]
