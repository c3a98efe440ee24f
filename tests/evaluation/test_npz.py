"""npz files: equal to numpy's own reading, and lying headers are found before anything is read."""

import io
import zipfile

import numpy as np
import pytest

from diffusion_guidance.evaluation.npz import npz_names, read_npz


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_those_of_numpy(tmp_path, save, order):
    arrays = {"a": np.asarray(np.arange(24.0).reshape(2, 3, 4), order=order), "b": np.zeros((0, 3), np.uint8)}
    save(tmp_path / "x.npz", **arrays)
    assert npz_names(tmp_path / "x.npz") == ["a", "b"]
    with np.load(tmp_path / "x.npz") as expected:
        for name in arrays:
            found = read_npz(tmp_path / "x.npz", name)
            np.testing.assert_array_equal(found, expected[name])
            assert found.dtype == expected[name].dtype
    assert isinstance(read_npz(tmp_path / "x.npz", "a"), np.memmap) == (save is np.savez)


def member(header: str | bytes, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    header = header.encode() if isinstance(header, str) else header
    length = len(header).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + header + data


LYING = {
    "many": member("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}", bytes(64)),
    "few": member("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", bytes(64)),
    "negative": member("{'descr': '<f8', 'fortran_order': False, 'shape': (-8,)}", bytes(64)),
    "two negatives": member("{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -4)}", bytes(64)),
    "objects": member("{'descr': '|O', 'fortran_order': False, 'shape': (8,)}", bytes(64)),
    "structured": member("{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (8,)}", bytes(64)),
    "wide": member("{'descr': '|V2147483647', 'fortran_order': False, 'shape': (1,)}", bytes(64)),
    "nested": member("(" * 9000 + ")" * 900),
    "long": member(" " * 200_000, version=b"\x02\x00"),
    "lying length": member(b"{}", version=b"\x02\x00")[:8] + b"\xff\xff\xff\xff{}",
    "code": member("__import__('os').system('touch ran')"),
    "version 3": member("{}", version=b"\x03\x00"),
    "no numpy": b"PK",
    "empty": b"",
}


@pytest.mark.parametrize("kind", LYING)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_lying_header_is_refused(tmp_path, kind, method):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.writestr("arr_0.npy", LYING[kind])
    with pytest.raises(ValueError, match=r"cannot read arr_0 from .*x\.npz: ."):
        read_npz(tmp_path / "x.npz", "arr_0")
    assert not (tmp_path / "ran").exists()


def test_damaged_archives_are_refused(tmp_path):
    stream = io.BytesIO()
    np.savez(stream, arr_0=np.arange(3000, dtype=np.uint8))
    whole = stream.getvalue()
    draw = np.random.default_rng(0)
    for _ in range(100):
        data = np.frombuffer(whole, np.uint8).copy()
        data[draw.integers(len(data) - 200, len(data), 4)] ^= 255
        (tmp_path / "x.npz").write_bytes(data[: int(draw.integers(1, len(data) + 1))].tobytes())
        try:
            assert read_npz(tmp_path / "x.npz", "arr_0").shape == (3000,)
        except ValueError as error:
            assert "x.npz" in str(error) and "\n" not in str(error)
    with pytest.raises(ValueError, match=r"holds arr_0, and not mu"):
        (tmp_path / "x.npz").write_bytes(whole)
        read_npz(tmp_path / "x.npz", "mu")
