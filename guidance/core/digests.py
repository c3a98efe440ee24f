"""SHA-256 of large files, remembered by size, times and inode, so that asking again costs nothing."""

import json
import os
import time
from collections.abc import Iterable
from pathlib import Path

from .files import cache_folder, file_digest, write_json


SMALL = 1 << 16  # bytes; smaller files are read each time
KEPT = 4096  # digests that are remembered
_SETTLED = 2e9  # ns; a file changed so lately could change again without another time stamp


def file_digests(paths: Iterable[str | os.PathLike]) -> dict[str, str]:
    """Path -> SHA-256 as hexadecimal digits. A file is read again only if its size, times or inode have changed.

    What is remembered lies in the user's cache folder (`XDG_CACHE_HOME`, or `~/.cache`); where that cannot be written,
    files are read each time.

    Raises:
        ValueError: a file cannot be read.
    """
    known, result = _load(), {}
    before = dict(known)
    for each in paths:
        path = os.fspath(each)
        try:
            status = os.stat(path)
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror}") from None
        stamp = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_dev} {status.st_ino}"
        place = os.path.realpath(path)
        entry = known.get(place)
        if entry is not None and entry[0] == stamp:
            result[path] = entry[1]
            continue
        result[path] = file_digest(path)
        if status.st_size > SMALL and time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _SETTLED:
            known.pop(place, None)
            known[place] = [stamp, result[path]]
    if known != before:
        _save(known)
    return result


def _cache() -> Path:
    return cache_folder() / "digests.json"


def _load() -> dict[str, list[str]]:
    try:
        known = json.loads(_cache().read_text(encoding="utf-8"))
        return {str(place): [str(stamp), str(digest)] for place, (stamp, digest) in known.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # not there, or damaged
        return {}


def _save(known: dict[str, list[str]]) -> None:
    try:
        write_json(_cache(), dict(list(known.items())[-KEPT:]))
    except OSError:
        return
