import multiprocessing
import os
import signal
import stat
import time

import pytest

from diffusion_guidance.core.files import TEMPORARY, sweep, write_atomic, write_json


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = write_json(tmp_path / "a" / "report.json", {"x": 1})
    before = path.read_bytes()

    def fail(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, fail)
    assert path.read_bytes() == before and os.listdir(path.parent) == ["report.json"]


def test_files_are_readable_by_others_as_far_as_the_umask_allows(tmp_path):
    umask = os.umask(0o022)
    try:
        path = write_json(tmp_path / "report.json", [])
    finally:
        os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_nan_is_refused_and_nothing_written(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "report.json", {"x": float("nan")})
    assert not list(tmp_path.iterdir())


def die(path, written) -> None:
    def write(temporary):
        temporary.write_text("half")
        written.set()
        time.sleep(30)

    write_atomic(path, write)


def test_a_sweep_deletes_what_dead_writers_left_and_nothing_else(tmp_path):
    fork = multiprocessing.get_context("fork")
    written = fork.Event()
    writer = fork.Process(target=die, args=(tmp_path / "a.png", written), daemon=True)
    writer.start()
    assert written.wait(30)
    (tmp_path / ".hidden.png").touch()
    (tmp_path / "b.png").touch()
    assert sweep(tmp_path) == 0
    (left,) = tmp_path.glob(f"{TEMPORARY}*.png")
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(300)
    assert left.exists() and sweep(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == [".hidden.png", "b.png"]


def test_names_as_long_as_the_system_allows_can_be_written(tmp_path):
    path = tmp_path / ("n" * 250 + ".json")
    assert write_json(path, 1) == path and path.read_text() == "1\n"
