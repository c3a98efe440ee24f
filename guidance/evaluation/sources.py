"""What a set of pictures is compared with, or consists of: picture folders, npz files, stored statistics, runs.

Known npz formats: `mu` and `sigma` (edm, pytorch-fid), and ADM's, with `mu` and `sigma` of a reference batch or the
pictures themselves as `arr_0` (N, H, W, 3) uint8. Nothing is ever unpickled.
"""

import hashlib
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..core.files import file_digest
from .metrics.frechet import merged
from .metrics.moments import Moments
from .store import ChunkStore


SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


@dataclass(frozen=True)
class Reference:
    """The other side of a comparison.

    Attributes:
        mean, covariance: (D,) and (D, D) float64.
        count: samples that they rest on; None if the file does not say.
        digest: SHA-256 of what was read, as hexadecimal digits.
        features: (N, D) of the single samples, for measures that need them; None if there are statistics only.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None
    digest: str
    features: np.ndarray | None = None

    @classmethod
    def of(cls, features: torch.Tensor | np.ndarray) -> "Reference":
        """From features (N, D) in memory; the digest is that of their float32 bytes."""
        features = np.ascontiguousarray(torch.as_tensor(features).float().cpu().numpy())
        moments = Moments.of(features)
        digest = hashlib.sha256(features.tobytes()).hexdigest()
        return cls(moments.mean, moments.covariance, moments.count, digest, features)

    @classmethod
    def of_run(cls, store: ChunkStore, features: bool) -> "Reference":
        """From what a run has stored; with `features` they are read into memory too."""
        whole = merged(store.moments(1))
        digest = hashlib.sha256()
        for rows in store.rows("features"):
            digest.update(rows.numpy().tobytes())
        array = store.array("features") if features else None
        return cls(whole.mean, whole.covariance, whole.count, digest.hexdigest(), array)


def read_statistics(path: Path) -> Reference:
    """Stored statistics: npz with `mu` and `sigma`, or safetensors as `Moments.save` writes.

    Raises:
        ValueError: another file; the message says what was found.
    """
    path = Path(path)
    digest = file_digest(path)
    if path.suffix == ".safetensors":
        moments = Moments.load(path)
        return Reference(moments.mean, moments.covariance, moments.count, digest)
    with _open_npz(path) as file:
        if not {"mu", "sigma"} <= set(file.files):
            raise ValueError(f"{path} holds {', '.join(file.files)}, but statistics are called mu and sigma")
        try:
            mean, covariance = (np.asarray(file[name], dtype=np.float64) for name in ("mu", "sigma"))
        except (ValueError, zipfile.BadZipFile) as error:
            raise ValueError(f"cannot read statistics from {path}: {error}") from None
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise ValueError(f"{path}: mu of the shape {mean.shape} does not go with sigma of {covariance.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all() and np.allclose(covariance, covariance.T)):
        raise ValueError(f"{path}: mu and sigma must be finite, and sigma symmetric")
    return Reference(mean, covariance, None, digest)


def has_statistics(path: Path) -> bool:
    """Whether `path` is a file that `read_statistics` is for, rather than pictures."""
    path = Path(path)
    if path.suffix != ".npz" or not path.is_file():
        return path.suffix == ".safetensors"
    with _open_npz(path) as file:
        return {"mu", "sigma"} <= set(file.files)


def find_run(folder: Path) -> ChunkStore | None:
    """The store of a finished run in `folder`; None if there is no run.

    Raises:
        ValueError: the run is not finished.
    """
    settings = Path(folder) / "settings.json"
    if not (settings.is_file() and (Path(folder) / "samples").is_dir()):
        return None
    seeds = json.loads(settings.read_text(encoding="utf-8"))["seeds"]
    store = ChunkStore(Path(folder) / "samples", sum(last - first + 1 for first, last in seeds))
    if missing := store.missing():
        raise ValueError(f"the run in {folder} lacks {sum(map(len, missing))} samples; start it again to finish it")
    return store


class Pictures:
    """Picture files of a folder (sorted by path), or `arr_0` of an npz file, read when asked for.

    Raises:
        ValueError: there are none, or `arr_0` is not (N, H, W, 3) uint8.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        if self.path.is_dir():
            self._files = sorted(file for file in self.path.rglob("*") if file.suffix.lower() in SUFFIXES)
            self._array = None
            if not self._files:
                raise ValueError(f"no pictures in {path} (looked for {', '.join(SUFFIXES)})")
        else:
            self._array = _picture_array(self.path)

    def __len__(self) -> int:
        return len(self._files) if self._array is None else len(self._array)

    def read(self, indices: Sequence[int]) -> torch.Tensor:
        """(B, 3, H, W) float32 in [0, 1]. Raises ValueError if the sizes differ or a file is broken."""
        arrays = [self._read_file(self._files[i]) if self._array is None else self._array[i] for i in indices]
        if len({array.shape for array in arrays}) > 1:
            raise ValueError(f"the pictures in {self.path} differ in size; bring them to one size first")
        return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255

    def digest(self) -> str:
        """SHA-256 of the npz file, or of the digests of the pictures in order."""
        if self._array is not None:
            return file_digest(self.path)
        return hashlib.sha256("".join(map(file_digest, self._files)).encode()).hexdigest()

    @staticmethod
    def _read_file(path: Path) -> np.ndarray:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise ValueError(f"cannot read the picture {path}: {error}") from None


def _open_npz(path: Path):
    try:
        file = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"cannot read {path}: {error}; expected an npz file") from None
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError(f"{path} is a single array; expected an npz file")
    return file


def _picture_array(path: Path) -> np.ndarray:
    """`arr_0`, mapped rather than read where it is stored uncompressed, as numpy.savez does."""
    with _open_npz(path) as file:
        if "arr_0" not in file.files:
            raise ValueError(f"{path} holds {', '.join(file.files)}, but pictures are called arr_0")
        array = _map_member(path, "arr_0.npy")
        if array is None:
            try:
                array = file["arr_0"]
            except (ValueError, zipfile.BadZipFile) as error:
                raise ValueError(f"cannot read pictures from {path}: {error}") from None
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3:
        raise ValueError(f"{path}: pictures must be (N, H, W, 3) uint8, got {array.shape} {array.dtype}")
    return array


def _map_member(path: Path, name: str) -> np.ndarray | None:
    with zipfile.ZipFile(path) as archive, archive.open(name) as member:
        info = archive.getinfo(name)
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        np.lib.format.read_magic(member)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
        if fortran or dtype.hasobject:
            return None
        within = member.tell()
    with open(path, "rb") as file:  # the local header repeats the name and may hold more than the directory's
        file.seek(info.header_offset + 26)
        lengths = np.frombuffer(file.read(4), "<u2")
    offset = info.header_offset + 30 + int(lengths.sum()) + within
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape)
