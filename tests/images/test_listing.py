"""Listing: what is listed, in which order, and that links, permissions and odd names do not stop it."""

import os
import tracemalloc
from pathlib import Path

import pytest

from diffusion_guidance.images.listing import list_files


@pytest.fixture
def tree(tmp_path):
    for name in ("b.png", "a/2.png", "a/10.png", "a/deep/x.jpg", "c/y.txt", ".hidden/z.png", "a/.DS_Store"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return tmp_path


def listed(tree: Path, *sources, **options) -> list[str]:
    return [os.path.relpath(path, tree) for path in list_files([tree / source for source in sources], **options)]


def test_folders_are_walked_by_name(tree):
    assert listed(tree, "") == ["a/10.png", "a/2.png", "a/deep/x.jpg", "b.png", "c/y.txt"]
    assert listed(tree, "c", "b.png", ".hidden") == ["c/y.txt", "b.png", ".hidden/z.png"]  # the order given


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["b.png"]),
        ("**/*.png", ["b.png", "a/10.png", "a/2.png"]),  # a folder's own files, then those of its folders
        ("**/deep/*", ["a/deep/x.jpg"]),
        ("a/**", ["a/10.png", "a/2.png", "a/deep/x.jpg"]),
        ("[ac]", ["a/10.png", "a/2.png", "a/deep/x.jpg", "c/y.txt"]),  # folders that match are walked
        ("*/?.*", ["a/2.png", "c/y.txt"]),
        ("a/.DS*", ["a/.DS_Store"]),
    ],
)
def test_globs(tree, pattern, expected):
    assert listed(tree, pattern) == expected


def test_a_glob_agrees_with_pathlib(tree):
    expected = {str(path) for path in tree.glob("**/*.*") if not any(part.startswith(".") for part in path.parts)}
    assert set(list_files([tree / "**/*.*"])) == expected
    assert expected


def test_a_relative_glob(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert list(list_files(["*.png"])) == ["b.png"]
    assert list(list_files(["**/*.jpg"])) == ["a/deep/x.jpg"]
    assert list(list_files(["a/../c/*"])) == ["a/../c/y.txt"]


def test_a_name_that_looks_like_a_glob(tree):
    (tree / "[a].png").write_text("x")
    assert listed(tree, "[a].png") == ["[a].png"]


@pytest.mark.parametrize("source", ["missing", "*.webp"])
def test_a_source_without_files_is_an_error(tree, source):
    with pytest.raises(ValueError, match=r"no file or folder|nothing matches"):
        listed(tree, source)


def test_excluded_files_are_left_out(tree):
    assert "b.png" not in listed(tree, "", exclude=[tree / "a/../b.png"])
    (tree / "a/b.png").write_text("another of that name")
    assert "a/b.png" in listed(tree, "", exclude=[tree / "b.png"])


def test_loops_of_links_end(tree):
    (tree / "a/up").symlink_to(tree)
    (tree / "c/itself").symlink_to("itself")
    (tree / "c/nowhere").symlink_to("missing")
    (tree / "c/picture").symlink_to(tree / "b.png")
    found = listed(tree, "")
    assert len(found) == len(set(found))
    assert {"c/itself", "c/nowhere", "c/picture"} < set(found)  # reading them says what they are
    assert not [path for path in found if path.startswith("a/up/a")]
    assert len(listed(tree, "**/*.jpg")) == 1


def test_a_folder_without_permission_is_listed_itself(tree, monkeypatch):
    listdir = os.listdir

    def refuse(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert listed(tree, "a") == ["a/10.png", "a/2.png", "a/deep"]
    assert listed(tree, "**/*.png") == ["b.png", "a/10.png", "a/2.png", "a/deep"]
    assert listed(tree, "*/deep") == ["a/deep"]


def test_names_that_are_no_text(tree):
    raw = os.fsencode(tree) + b"/c/\xff\n.png"
    with open(raw, "w"):
        pass
    assert [os.fsencode(path) for path in list_files([tree / "c"])][1] == raw


def test_memory_is_that_of_one_folder(tmp_path):
    """Forty folders of fifty files take no more than two of them."""
    for folder in range(40):
        (tmp_path / f"{folder:02}").mkdir()
        for file in range(50):
            (tmp_path / f"{folder:02}" / f"{file:040}").touch()

    def peak(pattern: str) -> int:
        tracemalloc.start()
        count = sum(1 for _ in list_files([tmp_path / pattern]))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == {"0[01]": 100, "*": 2000}[pattern]
        return found

    peak("0[01]")
    assert peak("*") < peak("0[01]") + 8_000  # the names of the folders
