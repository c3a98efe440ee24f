"""One holder at a time, over processes and threads; and no lock outlives its process."""

import multiprocessing
import os
import signal
import threading

import pytest

from diffusion_guidance.core import locking
from diffusion_guidance.core.locking import locked_file, locked_folder


FORK = multiprocessing.get_context("fork")


def hold(folder, ready, end) -> None:
    with locked_folder(folder):
        ready.set()
        end.wait(30)


@pytest.fixture
def holder(tmp_path):
    ready, end = FORK.Event(), FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path, ready, end), daemon=True)
    process.start()
    assert ready.wait(30)
    yield process
    process.kill()
    process.join(300)


def test_another_process_is_refused_by_its_number_until_it_ends(tmp_path, holder):
    with pytest.raises(ValueError, match=f"process {holder.pid} writes to {tmp_path}; wait"), locked_folder(tmp_path):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.join(300)
    with locked_folder(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_one_thread_may_lock_twice_and_another_may_not(tmp_path):
    refused = []

    def other() -> None:
        try:
            with locked_folder(tmp_path):
                pass
        except ValueError as error:
            refused.append(str(error))

    with locked_folder(tmp_path):
        with locked_folder(tmp_path / "." / "x" / ".."):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(300)
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
    assert len(refused) == 1


def test_links_to_one_file_share_its_lock(tmp_path):
    (tmp_path / "link.csv").symlink_to(tmp_path / "rows.csv")
    with locked_file(tmp_path / "rows.csv"):
        assert (tmp_path / ".rows.csv.lock").exists()
        with locked_file(tmp_path / "link.csv"), locked_file(tmp_path / "other.csv"):
            assert not (tmp_path / ".link.csv.lock").exists()


def test_a_forked_child_does_not_keep_its_parents_lock(tmp_path):
    end = FORK.Event()
    with locked_folder(tmp_path):
        child = FORK.Process(target=end.wait, args=(30,), daemon=True)
        child.start()
    ready = FORK.Event()
    other = FORK.Process(target=hold, args=(tmp_path, ready, end), daemon=True)
    other.start()
    assert ready.wait(30)
    end.set()
    child.join(300)
    other.join(300)


def increase(path, times: int) -> None:
    while times:
        try:
            with locked_file(path):
                path.write_text(str(int(path.read_text()) + 1))
                times -= 1
        except ValueError:
            continue


def test_nothing_is_lost_between_processes_that_contend(tmp_path):
    path = tmp_path / "count"
    path.write_text("0")
    processes = [FORK.Process(target=increase, args=(path, 100), daemon=True) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert path.read_text() == "300"


def test_without_the_systems_locks_a_file_left_over_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(locking, "fcntl", None)
    with locked_folder(tmp_path):
        assert (tmp_path / ".lock").exists()
    with locked_folder(tmp_path):
        pass
    (tmp_path / ".lock").write_text("123\n")
    with pytest.raises(ValueError, match=r"process 123 writes to .*delete .*\.lock if that"), locked_folder(tmp_path):
        pass


def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def unsupported(handle, operation):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(locking.fcntl, "flock", unsupported)
    with pytest.raises(ValueError, match="Operation not supported; choose a folder on"), locked_folder(tmp_path):
        pass


def test_a_lock_file_that_was_deleted_meanwhile_is_no_lock(tmp_path, monkeypatch):
    """Its holder ended between the opening of the file and the lock on it."""
    lock, flock, deleted = tmp_path / ".lock", locking.fcntl.flock, []

    def late(handle, operation):
        if not deleted:
            deleted.append(lock.unlink())
        flock(handle, operation)

    monkeypatch.setattr(locking.fcntl, "flock", late)
    with locked_folder(tmp_path):
        assert deleted and lock.read_text() == f"{os.getpid()}\n"
