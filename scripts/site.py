"""What mkdocs builds besides the files of docs/: the reference, from the public names, and parts of other documents.

A hook of mkdocs.yml. Nothing is imported or fetched: sources are read.
"""

import ast
import re
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files


ROOT = Path(__file__).resolve().parents[1]
#: Page -> (document, heading of the part that it shows; None for all of it).
PARTS = {
    "add-method.md": ("CONTRIBUTING.md", "A new method"),
    "add-family.md": ("CONTRIBUTING.md", "A new family of pipelines"),
    "changes.md": ("CHANGELOG.md", None),
}
#: Where public names are listed, as imports for type checkers.
PUBLIC = {
    "diffusion_guidance": "guidance",
    "diffusion_guidance.detection": "guidance/detection",
    "diffusion_guidance.evaluation": "guidance/evaluation",
    "diffusion_guidance.pipelines": "pipelines",
}


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show the package under its import name, which its folder does not have."""
    folder = tempfile.TemporaryDirectory(prefix="site-")
    package = Path(folder.name, "diffusion_guidance")
    shutil.copytree(ROOT / "guidance", package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "pipelines", package / "pipelines", ignore=shutil.ignore_patterns("__pycache__"))
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [folder.name]
    config.extra["package"] = folder  # kept until the build ends
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = {name: part(*source) for name, source in PARTS.items()} | reference()
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def part(document: str, heading: str | None) -> str:
    """A document, or what stands under one of its second-level headings, as a page; links stay those of docs/."""
    text = (ROOT / document).read_text(encoding="utf-8")
    if heading is not None:
        found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, flags=re.M | re.S)
        if found is None:
            raise ValueError(f"{document} has no heading {heading!r}")
        text = f"# {heading}\n{found[1]}"
    return text.replace("](docs/", "](")


def reference() -> dict[str, str]:
    """A page for each room of the package: its public names in the order of their modules."""
    rooms: dict[str, list[str]] = defaultdict(list)
    for module, names in sorted(public_names().items()):
        room = module.split(".")[1]
        rooms[room] += [f"::: {module}.{name}\n" for name in sorted(names)]
    pages = {f"reference/{room}.md": f"# {room.capitalize()}\n\n" + "\n".join(lines) for room, lines in rooms.items()}
    index = "".join(f"- [{room}]({room}.md)\n" for room in sorted(rooms))
    pages["reference/index.md"] = f"# Reference\n\nEvery public name, by the room where it lives:\n\n{index}"
    return pages


def public_names() -> dict[str, set[str]]:
    """Module -> its names that a package shows, from the imports in each `__init__.py` and the folder of methods."""
    found: dict[str, set[str]] = defaultdict(set)
    for package, folder in PUBLIC.items():
        for node in ast.walk(_tree(ROOT / folder / "__init__.py")):
            if isinstance(node, ast.ImportFrom) and (module := _absolute(package, node)):
                found[module] |= {alias.name for alias in node.names}
    for path in sorted((ROOT / "guidance/methods").rglob("*.py")):  # callbacks are public without being listed
        module = ".".join(path.relative_to(ROOT / "guidance").with_suffix("").parts)
        kinds = [node.name for node in _tree(path).body if isinstance(node, ast.ClassDef) and _is_callback(node)]
        if kinds:
            found[f"diffusion_guidance.{module}"] |= set(kinds)
    return dict(found)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _is_callback(node: ast.ClassDef) -> bool:
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
    return "Callback" in bases and not node.name.startswith("_")


def _absolute(package: str, node: ast.ImportFrom) -> str | None:
    """The module of this package that is imported from; None of another, or of what only makes names lazy."""
    parts = package.split(".")
    module = ".".join([*parts[: len(parts) + 1 - node.level], node.module or ""]) if node.level else node.module or ""
    known = module.startswith("diffusion_guidance.") and not module.endswith((".lazy", ".kinds"))
    return module if known else None
