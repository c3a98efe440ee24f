"""The one listing of files, folders and globs: which files count, in what order, and which are left out and why."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from glob import has_magic
from pathlib import Path

from .byproducts import left_out


#: Names of files that may be images; the content decides which format they are. See `reading.FORMATS`.
SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "gif", "tif", "tiff", "avif", "avifs"),
        *("jp2", "j2k", "jpf", "jpx", "ppm", "pgm", "pbm", "pnm", "pfm", "qoi"),
    )
)
Report = Callable[[str, str], object]  # of a path that is left out, and the reason


@dataclass(frozen=True)
class Listing:
    """Files of one set of images.

    Attributes:
        files: paths, in the order of their names.
        left_out: (path, reason) of each file that is not a sample.
    """

    files: tuple[str, ...]
    left_out: tuple[tuple[str, str], ...]


def list_images(source: str | os.PathLike) -> Listing:
    """The samples in a folder and below it: files whose name is that of an image, each file once.

    Left out are hidden names, by-products and leftovers of our own runs (see `byproducts`), other kinds of files, and
    links to a file that is listed under its own name.

    Raises:
        ValueError: there is no such file or folder.
    """
    found: dict[object, str] = {}
    unwanted: list[tuple[str, str]] = []
    for path in list_files([source], report=lambda path, reason: unwanted.append((path, reason))):
        if os.path.splitext(path)[1].lower() not in SUFFIXES:
            unwanted.append((path, "not an image by its name"))
            continue
        key = _identity(path)
        # Among several names of a file its own comes first, so that an added link changes nothing.
        if (known := found.setdefault(key, path)) != path:
            kept, other = sorted([known, path], key=lambda each: (os.path.islink(each), os.fsencode(each)))
            found[key] = kept
            unwanted.append((other, "another name of a file that counts"))
    return Listing(tuple(sorted(found.values(), key=_place)), tuple(sorted(unwanted)))


def list_files(
    sources: Iterable[str | os.PathLike], exclude: Iterable[str | os.PathLike] = (), report: Report | None = None
) -> Iterator[str]:
    """Paths of the files that `sources` mean, source by source; folders are walked in the order of their names.

    Only the names of the folders on the way to the present file are held. Names that `byproducts.left_out` knows
    (hidden files, what we wrote) are left out unless they are given themselves. Symbolic links are followed; a folder
    is walked once for each source, so a loop of links ends. What cannot be opened (a broken link, a folder without
    permission) is listed too: reading it says why.

    Args:
        sources: files, folders, or globs, in which `**` stands for any number of folders and then matches files alone.
        exclude: files to leave out, wherever they are, such as the file of the results.
        report: called with each path that is left out, and the reason.

    Raises:
        ValueError: a source that does not exist, or a glob that matches nothing.
    """
    hidden = {os.path.realpath(path) for path in exclude}
    names = {os.path.basename(path) for path in hidden}
    for source in sources:
        for path in _Walk(report).paths(os.fspath(source)):
            if os.path.basename(path) not in names or os.path.realpath(path) not in hidden:
                yield path


class _Walk:
    """One source; `seen` holds devices and inodes of the folders that were entered."""

    def __init__(self, report: Report | None):
        self.report = report
        self.seen: set[tuple[int, int]] = set()

    def paths(self, source: str) -> Iterator[str]:
        if os.path.lexists(source):
            yield from self.walk(source, self.seen)
            return
        if not has_magic(source):
            raise ValueError(f"there is no file or folder {source}")
        parts, empty = list(Path(source).parts), True
        fixed = next(i for i, part in enumerate(parts) if has_magic(part))
        deep = "**" in parts
        for path in self.glob(os.path.join(*parts[:fixed]) if fixed else "", parts[fixed:], files=deep):
            empty = False
            yield from [path] if deep else self.walk(path, self.seen)
        if empty:
            raise ValueError(f"nothing matches {source}")

    def walk(self, top: str, seen: set[tuple[int, int]], folders: bool = False) -> Iterator[str]:
        """Files under `top`, or its folders and itself.

        A stack of iterators, not recursion: folders may be nested deeper than Python's calls.
        """
        stack: list[Iterator[str]] = [iter([top])]
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
                    stack.append(map(partial(os.path.join, path), self.names(path, quiet=folders)))
                    if not folders:
                        continue
                elif folders:
                    continue
            except OSError:  # listed anyway: reading it reports the reason
                pass
            yield path

    def names(self, folder: str, hidden: bool = False, quiet: bool = False) -> list[str]:
        """Sorted names of what counts in `folder`; with `hidden` of hidden files too."""
        names = os.listdir(folder or ".")
        unwanted = left_out(folder or ".", names)
        if hidden:
            unwanted = {name: reason for name, reason in unwanted.items() if not name.startswith(".")}
        if self.report is not None and not quiet:
            for name in sorted(unwanted):
                self.report(os.path.join(folder, name), unwanted[name])
        return sorted((name for name in names if name not in unwanted), key=os.fsencode)

    def glob(self, folder: str, parts: list[str], files: bool) -> Iterator[str]:
        """Paths below `folder` whose names match `parts`, one for each level except `**`; with `files`, no folders.

        A folder on the way that cannot be listed is given itself.
        """
        first, rest = parts[0], parts[1:]
        if first == "**":
            for below in self.walk(folder, set(), folders=True):
                yield from self.glob(below, rest or ["*"], files)
            return
        if not os.path.isdir(folder or "."):
            return
        try:
            names = self.names(folder, hidden=first.startswith("."))
        except OSError:
            yield folder
            return
        for path in (os.path.join(folder, name) for name in names if fnmatchcase(name, first)):
            if rest:
                yield from self.glob(path, rest, files)
            elif not (files and os.path.isdir(path)):
                yield path


def _identity(path: str) -> object:
    """The same for all names of one file."""
    try:
        status = os.stat(path)
    except OSError:  # a broken link
        return path
    return status.st_dev, status.st_ino


def _place(path: str) -> list[bytes]:
    """Files in the order of the places where they really are, by whichever links they were found."""
    return [os.fsencode(part) for part in Path(os.path.realpath(path)).parts]
