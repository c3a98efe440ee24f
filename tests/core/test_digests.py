"""Digests are those of the content, and unchanged files are not read again."""

import hashlib
import os

import pytest

from diffusion_guidance.core import digests
from diffusion_guidance.core.digests import SMALL, file_digests


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "diffusion-guidance" / "digests.json"


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once."""
    monkeypatch.setattr(digests, "_SETTLED", -1)


@pytest.fixture
def read(monkeypatch):
    paths = []
    digest = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path: paths.append(path) or digest(path))
    return paths


def sha(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_only_a_changed_file_is_read_again(tmp_path, cache, settled, read):
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_bytes(b"a" * (SMALL + 1))
    second.write_bytes(b"b" * (SMALL + 1))
    for _ in range(2):
        assert file_digests([first, second]) == {str(path): sha(path) for path in (first, second)}
    assert len(read) == 2
    times = first.stat()
    replaced = tmp_path / "c"
    replaced.write_bytes(b"c" * (SMALL + 1))
    os.replace(replaced, first)
    os.utime(first, ns=(times.st_atime_ns, times.st_mtime_ns))  # of the same size and time
    assert file_digests([first, second])[str(first)] == sha(first) and len(read) == 3


def test_a_file_of_just_now_and_a_small_one_are_read_each_time(tmp_path, cache, read):
    small, new = tmp_path / "small", tmp_path / "new"
    small.write_bytes(b"x")
    new.write_bytes(b"x" * (SMALL + 1))
    for _ in range(2):
        file_digests([small, new])
    assert len(read) == 4 and not cache.exists()


@pytest.mark.parametrize("content", ["", "[]", "null", '{"a": 1}', "[" * 100_000, '{"a": ["x", '])
def test_a_damaged_cache_is_made_again(tmp_path, cache, settled, content):
    path = tmp_path / "a"
    path.write_bytes(b"a" * (SMALL + 1))
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    assert file_digests([path]) == {str(path): sha(path)}
    assert str(path) in cache.read_text()


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path, cache, settled):
    cache.parent.parent.write_text("a file, not a folder")
    path = tmp_path / "a"
    path.write_bytes(b"a" * (SMALL + 1))
    assert file_digests([path]) == {str(path): sha(path)}
    with pytest.raises(ValueError, match=r"cannot read .*absent"):
        file_digests([tmp_path / "absent"])
