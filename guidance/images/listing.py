"""Which files are meant by files, folders and globs, one path at a time and in one order."""

import os
import stat
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from glob import has_magic
from pathlib import Path


def list_files(sources: Iterable[str | os.PathLike], exclude: Iterable[str | os.PathLike] = ()) -> Iterator[str]:
    """Paths of the files that `sources` mean, source by source; folders are walked in the order of their names.

    Only the names of the folders on the way to the present file are held. Names that begin with a dot are left out,
    unless they are given. Symbolic links are followed; a folder is walked once for each source, so a loop of links
    ends. What cannot be opened (a broken link, a folder without permission) is listed too: reading it says why.

    Args:
        sources: files, folders, or globs, in which `**` stands for any number of folders and then matches files alone.
        exclude: files to leave out, wherever they are, such as the one that results are written to.

    Raises:
        ValueError: a source that does not exist, or a glob that matches nothing.
    """
    hidden = {os.path.realpath(path) for path in exclude}
    names = {os.path.basename(path) for path in hidden}
    for source in map(os.fspath, sources):
        for path in _paths(source):
            if os.path.basename(path) not in names or os.path.realpath(path) not in hidden:
                yield path


def _paths(source: str) -> Iterator[str]:
    seen: set[tuple[int, int]] = set()
    if os.path.lexists(source):
        yield from _walk(source, seen)
        return
    if not has_magic(source):
        raise ValueError(f"there is no file or folder {source}")
    parts, empty = list(Path(source).parts), True
    fixed = next(i for i, part in enumerate(parts) if has_magic(part))
    deep = "**" in parts
    for path in _glob(os.path.join(*parts[:fixed]) if fixed else "", parts[fixed:], files=deep):
        empty = False
        yield from [path] if deep else _walk(path, seen)
    if empty:
        raise ValueError(f"nothing matches {source}")


def _walk(path: str, seen: set[tuple[int, int]], folders: bool = False) -> Iterator[str]:
    """Files under `path`, or its folders and itself; `seen` holds devices and inodes of the folders that were entered.

    A stack of iterators, not recursion: folders may be nested deeper than Python's calls.
    """
    stack: list[Iterator[str]] = [iter([path])]
    while stack:
        path = next(stack[-1], None)
        if path is None:
            stack.pop()
            continue
        try:
            status = os.stat(path or ".")
            if stat.S_ISDIR(status.st_mode):
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                stack.append(map(partial(os.path.join, path), _names(path)))
                if not folders:
                    continue
            elif folders:
                continue
        except OSError:  # listed nevertheless: whoever reads it reports the reason
            pass
        yield path


def _names(folder: str, hidden: bool = False) -> list[str]:
    names = os.listdir(folder or ".")
    return sorted((name for name in names if hidden or not name.startswith(".")), key=os.fsencode)


def _glob(folder: str, parts: list[str], files: bool) -> Iterator[str]:
    """Paths below `folder` whose names match `parts`, one for each level but for `**`; with `files`, no folders.

    A folder on the way that cannot be listed is given itself.
    """
    first, rest = parts[0], parts[1:]
    if first == "**":
        for below in _walk(folder, set(), folders=True):
            yield from _glob(below, rest or ["*"], files)
        return
    if not os.path.isdir(folder or "."):
        return
    try:
        names = _names(folder, hidden=first.startswith("."))
    except OSError:
        yield folder
        return
    for path in (os.path.join(folder, name) for name in names if fnmatchcase(name, first)):
        if rest:
            yield from _glob(path, rest, files)
        elif not (files and os.path.isdir(path)):
            yield path
