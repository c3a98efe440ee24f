"""Read one array of an npz file: never unpickled, never larger than its file, memory-mapped where uncompressed."""

import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np


MAX_BYTES = 1 << 33  # of an array that must be decompressed into memory; numpy.savez's are mapped, at any size
PLAIN = "biufc"  # kinds of dtype: numbers


def npz_names(path: str | os.PathLike) -> list[str]:
    """Names of the arrays in an npz file. Raises ValueError if `path` is not one."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception as error:  # damaged archives raise anything
        raise ValueError(f"cannot read {path}: {_line(error)}; expected an npz file") from None
    return [name.removesuffix(".npy") for name in names]


def read_npz(path: str | os.PathLike, name: str) -> np.ndarray:
    """The array called `name`, read-only.

    Raises:
        ValueError: there is no such array; it holds anything except numbers; or its header does not agree with the
            number of bytes that are there, which is found before they are read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            info = archive.getinfo(f"{name}.npy")
            with archive.open(info) as member:
                shape, fortran, dtype = _header(member)
                start = member.tell()
                _check(info, shape, dtype, start, path)
                if info.compress_type == zipfile.ZIP_STORED:
                    while member.read(1 << 20):  # to the end, where the checksum is compared
                        pass
                    return _map(Path(path), info, start, shape, fortran, dtype)
                data = member.read(info.file_size - start)
    except KeyError:
        raise ValueError(f"{path} holds {', '.join(npz_names(path))}, and not {name}") from None
    except Exception as error:  # damaged archives and headers raise anything
        raise ValueError(f"cannot read {name} from {path}: {_line(error)}") from None
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    major, minor = np.lib.format.read_magic(member)
    if (major, minor) not in ((1, 0), (2, 0)):
        raise ValueError(f"version {major}.{minor} of the format is not read")
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    return read(member)  # at most 10,000 characters, as literals alone


def _check(info: zipfile.ZipInfo, shape: tuple[int, ...], dtype: np.dtype, start: int, path: str | os.PathLike) -> None:
    if dtype.kind not in PLAIN:
        raise ValueError(f"it holds {dtype}, not numbers, and nothing is unpickled")
    size = math.prod(shape) * dtype.itemsize
    if any(side < 0 for side in shape) or size != info.file_size - start:
        raise ValueError(f"its header says {shape} {dtype}, {size} bytes, and there are {info.file_size - start}")
    if info.compress_type == zipfile.ZIP_STORED:
        size = info.header_offset + info.compress_size
        if info.compress_size != info.file_size or size > os.stat(path).st_size:
            raise ValueError("the archive is cut off")
    elif size > MAX_BYTES:
        raise ValueError(f"{size} bytes are too many to decompress; store it with numpy.savez")


def _map(
    path: Path, info: zipfile.ZipInfo, start: int, shape: tuple[int, ...], fortran: bool, dtype: np.dtype
) -> np.ndarray:
    with open(path, "rb") as file:  # the local header repeats the name and may hold more than the directory's
        file.seek(info.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
    offset = info.header_offset + 30 + int(lengths.sum()) + start
    if not math.prod(shape):
        return np.empty(shape, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape, order="F" if fortran else "C")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
