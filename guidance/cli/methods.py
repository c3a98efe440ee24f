"""What can be given to --guidance, read from the sources of the methods: nothing is imported for a --help."""

import ast
from pathlib import Path


METHODS = Path(__file__).resolve().parents[1] / "methods"


def described() -> str:
    """Every callback class below `methods`, in the short form of its name, with its arguments."""
    trees = (ast.parse(file.read_text(encoding="utf-8")) for file in sorted(METHODS.rglob("*.py")))
    classes = {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}
    return ", ".join(
        f"{name.lower()} ({', '.join(_arguments(kind, classes))})"
        for name, kind in classes.items()
        if any(isinstance(base, ast.Name) and base.id == "Callback" for base in kind.bases)
    )


def _arguments(kind: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> list[str]:
    """Of the constructor, groups by their fields, without the window of steps that every callback takes."""
    constructors = (node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    names: list[str] = []
    for given in (each for node in constructors for each in (*node.args.args, *node.args.kwonlyargs)):
        group = classes.get(given.annotation.id) if isinstance(given.annotation, ast.Name) else None
        fields = [] if group is None else [node for node in group.body if isinstance(node, ast.AnnAssign)]
        names += [ast.unparse(field.target) for field in fields] or [given.arg]
    return [name for name in names if name not in ("self", "start", "stop")]
