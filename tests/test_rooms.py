"""Which room of the package imports which: only lower ones, and methods and scripts are known to few."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest


ROOT = Path(__file__).parent.parent
PACKAGE = "diffusion_guidance"
#: Room -> the rooms that it imports, from the bottom up: each imports from those above it in this list only.
IMPORTS = {
    "core": set(),
    "worlds": {"core"},
    "images": {"core"},
    "networks": {"core", "worlds"},
    "attachment": {"core"},
    "methods": {"core", "networks", "attachment"},
    "pipelines": {"core", "worlds", "attachment"},
    "evaluation": {"core", "worlds", "images", "networks", "attachment"},
    "detection": {"core", "images", "networks", "attachment", "evaluation"},
    "play": {"core", "methods", "evaluation"},
    "cli": {
        *("core", "worlds", "images", "networks", "attachment", "methods", "pipelines", "evaluation", "detection"),
        "play",
    },
}


def modules() -> Iterator[tuple[list[str], ast.Module]]:
    """Every module below a room: its dotted name in parts, without the package's, and its source."""
    for path in (*(ROOT / "guidance").glob("*/**/*.py"), *(ROOT / "pipelines").glob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield list(parts[parts[0] == "guidance" :]), ast.parse(path.read_text(encoding="utf-8"))


def imported(name: list[str], tree: ast.Module) -> Iterator[list[str]]:
    """What a module imports from anywhere, also within its functions, as dotted names in parts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = [PACKAGE, *name][: len(name) + 1 - node.level] if node.level else []
            base += node.module.split(".") if node.module else []
            yield from ([*base, alias.name] for alias in node.names)


def arrows(room: str) -> set[str]:
    """The other rooms from which the modules of `room` import."""
    found = [each for name, tree in modules() if name[0] == room for each in imported(name, tree)]
    return {each[1] for each in found if each[0] == PACKAGE} - {room}


@pytest.mark.parametrize("room", IMPORTS)
def test_a_room_imports_what_is_listed_and_only_from_below(room):
    assert arrows(room) == IMPORTS[room]
    rooms = list(IMPORTS)
    assert IMPORTS[room] <= set(rooms[: rooms.index(room)])


def test_folders_within_a_room_import_each_other_in_one_direction():
    folders = {
        path.parent.relative_to(ROOT / "guidance").parts for path in (ROOT / "guidance").glob("*/**/__init__.py")
    }
    found: dict[tuple, set[tuple]] = {folder: set() for folder in folders}
    for name, tree in modules():
        for each in imported(name, tree):
            places = [tuple(each[1:end]) for end in range(len(each), 1, -1)] if each[0] == PACKAGE else []
            target = next((place for place in places if place in folders), None)
            if target and tuple(name[:-1]) in folders:
                found[tuple(name[:-1])].add(target)
    assert ("evaluation", "metrics") in found[("evaluation",)]
    graphlib.TopologicalSorter({folder: targets - {folder} for folder, targets in found.items()}).prepare()


def test_every_folder_is_a_room():
    folders = {path.parent.name for path in (ROOT / "guidance").glob("*/__init__.py")}
    assert folders | {"pipelines"} == set(IMPORTS)


def test_the_package_does_not_know_its_scripts_and_tests():
    tops = {each[0] for name, tree in modules() for each in imported(name, tree)}
    assert PACKAGE in tops and "torch" in tops and not tops & {"scripts", "tests", "guidance"}


def test_a_relative_import_is_resolved():
    tree = ast.parse("from ..core.step import Step\nfrom . import spaces\nfrom ...methods import cfg\nimport a.b")
    assert list(imported(["methods", "classifier", "reading"], tree)) == [
        [PACKAGE, "methods", "core", "step", "Step"],
        [PACKAGE, "methods", "classifier", "spaces"],
        [PACKAGE, "methods", "cfg"],
        ["a", "b"],
    ]
