import os
import stat

import pytest

from diffusion_guidance.core.files import write_atomic, write_json


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
