"""Files that are either whole or absent: everything is written to a temporary file and then renamed."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


if sys.platform != "win32":
    import fcntl
else:
    fcntl = None

#: How the name of every temporary file begins. It is hidden, and no other files have it.
TEMPORARY = ".diffusion-guidance-"


def write_atomic(path: str | os.PathLike, write: Callable[[Path], Any]) -> Path:
    """Call `write(temporary_path)` and rename what it wrote to `path`; a killed process leaves no half file there.

    Parent folders are made. The temporary name keeps the suffix of `path`, since many writers choose a format by it.
    What a killed process leaves is deleted by `sweep`.

    Raises:
        ValueError: `path` has no suffix, and the writer chose one of its own.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path) as temporary:
        try:
            write(temporary)
            if strays := [] if path.suffix else [*path.parent.glob(f"{temporary.name}.*")]:
                for stray in strays:
                    stray.unlink()
                raise ValueError(f"{path} does not say its format; end it in {strays[0].suffix}")
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes private files; these are meant to be shared
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return path


def write_json(path: str | os.PathLike, value: Any) -> Path:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused, since JSON has no such numbers."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def sweep(folder: str | os.PathLike) -> int:
    """Delete the temporary files of dead writers in `folder`, but not below it; returns how many there were.

    A writer holds a lock on its file for as long as it lives, so files in use stay, whoever writes them.
    """
    swept = 0
    for path in Path(folder).glob(f"{TEMPORARY}*") if fcntl is not None else ():
        try:
            with open(path, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
                swept += 1
        except OSError:  # in use, or gone
            continue
    return swept


def cache_folder() -> Path:
    """The folder of this package in the user's cache (`XDG_CACHE_HOME`, or `~/.cache`), which need not exist."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "diffusion-guidance"


def file_digest(path: str | os.PathLike) -> str:
    """SHA-256 of a file, as hexadecimal digits. Raises ValueError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    return digest.hexdigest()


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """An empty file next to `path`; it is locked meanwhile, so that `sweep` knows that its writer lives."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY, suffix=path.suffix)
    if fcntl is None:
        os.close(handle)  # Windows cannot rename an open file
        yield Path(temporary)
        return
    try:
        with suppress(OSError):  # a file system without locks has no sweep either
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield Path(temporary)
    finally:
        os.close(handle)
