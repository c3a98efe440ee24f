"""One command at a time for what is written at one place: a lock that ends with its process, however it ends."""

import errno
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path


if sys.platform != "win32":
    import fcntl
else:
    fcntl = None

#: Lock file -> the thread of this process that holds it, so that a function may lock what its caller has locked.
_held: dict[str, int] = {}
_handles: dict[str, int] = {}


def locked_folder(folder: str | os.PathLike) -> AbstractContextManager[None]:
    """Hold the lock of what is written to `folder`, which is made; a context manager.

    Raises:
        ValueError: on entry, if another process or thread holds it, or the file system cannot lock.
    """
    os.makedirs(folder, exist_ok=True)
    return _locked(os.path.join(os.path.realpath(folder), ".lock"), folder)


def locked_file(path: str | os.PathLike) -> AbstractContextManager[None]:
    """Hold the lock of the file `path`, which need not exist; a context manager. Raises as `locked_folder`."""
    folder, name = os.path.split(os.path.realpath(path))
    os.makedirs(folder, exist_ok=True)
    return _locked(os.path.join(folder, f".{name}.lock"), path)


@contextmanager
def _locked(lock: str, place: str | os.PathLike) -> Iterator[None]:
    if _held.get(lock) == threading.get_ident():
        yield
        return
    if lock in _held:
        raise _in_use(place, str(os.getpid()))
    handle = (_flock if fcntl is not None else _create)(lock, place)
    _held[lock], _handles[lock] = threading.get_ident(), handle
    try:
        yield
    finally:
        _held.pop(lock, None)
        if _handles.pop(lock, None) is not None:  # None in a process that was forked meanwhile
            Path(lock).unlink(missing_ok=True)  # before the lock is given up, so that no other file is deleted
            os.close(handle)


def _flock(lock: str, place: str | os.PathLike) -> int:
    """An open file with the system's lock on it, which ends with the process."""
    while True:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, lock):  # who held it until now may have deleted the file
                os.ftruncate(handle, 0)
                os.write(handle, f"{os.getpid()}\n".encode())
                return handle
        except OSError as error:
            owner = _owner(lock)
            os.close(handle)
            if error.errno in (errno.EAGAIN, errno.EACCES):
                raise _in_use(place, owner) from None
            raise ValueError(
                f"cannot lock {place}: {error.strerror}; choose a folder on a file system that has locks"
            ) from None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _create(lock: str, place: str | os.PathLike) -> int:
    """A file that only one process can create. It outlives a killed process, so that somebody has to delete it."""
    try:
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        raise ValueError(
            f"process {_owner(lock)} writes to {place}; wait for it, or delete {lock} if that process was killed"
        ) from None
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle


def _is_at(handle: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _owner(lock: str) -> str:
    try:
        return Path(lock).read_text(encoding="ascii", errors="replace").strip() or "of an unknown number"
    except OSError:
        return "of an unknown number"


def _in_use(place: str | os.PathLike, owner: str) -> ValueError:
    return ValueError(f"process {owner} writes to {place}; wait until it ends, or choose another place")


def _forget() -> None:
    """In a forked process: the lock is its parent's, and must not outlive the parent in its child."""
    for handle in _handles.values():
        os.close(handle)
    _held.clear()
    _handles.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
