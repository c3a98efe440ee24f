"""The sides of a comparison: image folders, npz files, stored statistics, runs.

Known npz formats: `mu` and `sigma` (edm, pytorch-fid), and ADM's, with `mu` and `sigma` of a reference batch or the
images themselves as `arr_0` (N, H, W, 3) uint8. Nothing is ever unpickled.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from ..core.files import file_digest
from ..core.json_files import parse_json
from ..images.byproducts import summary
from ..images.listing import list_images
from ..images.reading import Skipped, read_image
from ..images.survey import Seen, survey
from .metrics.frechet import merged
from .metrics.moments import Moments
from .npz import npz_names, read_npz
from .settings import read_settings
from .store import ChunkStore


@dataclass(frozen=True)
class Reference:
    """The other side of a comparison.

    Attributes:
        mean, covariance: (D,) and (D, D) float64.
        count: samples that they were computed from; None if the file does not say.
        digest: SHA-256 of what was read, as hexadecimal digits.
        features: (N, D) of the single samples, for metrics that need them; None if there are statistics only.
        extractor: identity of the features' extractor; None if the file does not say.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None
    digest: str
    features: np.ndarray | None = None
    extractor: Mapping | str | None = None

    @classmethod
    def of(cls, features: torch.Tensor | np.ndarray) -> "Reference":
        """From features (N, D) in memory; the digest is of their float32 bytes."""
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
        return cls(whole.mean, whole.covariance, whole.count, digest.hexdigest(), array, stored_extractor(store))


def read_statistics(path: Path) -> Reference:
    """Stored statistics: npz with `mu` and `sigma`, or safetensors as `Moments.save` writes, or with `features` (N, D).

    Raises:
        ValueError: another file; the message says what was found.
    """
    path = Path(path)
    digest = file_digest(path)
    if path.suffix == ".safetensors":
        facts = Moments.metadata(path)
        extractor = _extractor(facts["extractor"], path) if "extractor" in facts else None
        with safe_open(path, framework="numpy") as file:
            features = file.get_tensor("features") if "features" in file.keys() else None  # noqa: SIM118
        if features is not None:
            return replace(Reference.of(features), digest=digest, extractor=extractor)
        moments = Moments.load(path)
        return Reference(moments.mean, moments.covariance, moments.count, digest, None, extractor)
    if not {"mu", "sigma"} <= set(names := npz_names(path)):
        raise ValueError(f"{path} holds {', '.join(names)}, but statistics are called mu and sigma")
    mean, covariance = (np.asarray(read_npz(path, name), dtype=np.float64) for name in ("mu", "sigma"))
    if mean.ndim != 1 or covariance.shape != 2 * mean.shape:
        raise ValueError(f"{path}: mu of the shape {mean.shape} does not go with sigma of {covariance.shape}")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all() and np.allclose(covariance, covariance.T)):
        raise ValueError(f"{path}: mu and sigma must be finite, and sigma symmetric")
    return Reference(mean, covariance, None, digest)


def has_statistics(path: Path) -> bool:
    """Whether `path` is a file for `read_statistics`, rather than images."""
    path = Path(path)
    if path.suffix != ".npz" or not path.is_file():
        return path.suffix == ".safetensors"
    return {"mu", "sigma"} <= set(npz_names(path))


def has_images(path: Path) -> bool:
    """Whether the npz file `path` holds images, perhaps next to statistics."""
    path = Path(path)
    return path.suffix == ".npz" and path.is_file() and "arr_0" in npz_names(path)


def find_run(folder: Path) -> ChunkStore | None:
    """The store of a finished run in `folder`; None if there is no run.

    Raises:
        ValueError: the run is not finished, or is a measurement of the images in the folder itself.
    """
    folder = Path(folder)
    settings = read_settings(folder) if (folder / "samples").is_dir() else None
    if settings is None:
        return None
    if "pictures" in settings and Path(str(settings["pictures"])).resolve() == folder.resolve():
        raise ValueError(
            f"{folder} holds images and an earlier measurement of them; delete {folder / 'settings.json'} and "
            f"{folder / 'samples'} to measure the images as they are now"
        )
    try:
        count = sum(last - first + 1 for first, last in settings["seeds"])
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{folder / 'settings.json'} is not of a run; choose another folder") from None
    store = ChunkStore(folder / "samples", count)
    if missing := store.missing():
        raise ValueError(f"the run in {folder} lacks {sum(map(len, missing))} samples; start it again to finish it")
    return store


def stored_extractor(store: ChunkStore) -> Mapping | str | None:
    """Identity of the extractor of a run, as it was kept; None if it was not."""
    return (read_settings(store.folder.parent) or {}).get("extractor")


class ImageSet:
    """Image files of a folder, read by the one reader, or `arr_0` of an npz file; pixels are read when asked for.

    Every file is decoded once at the start, so that what cannot be read, and another size, are found before anything
    is computed.

    Attributes:
        left_out: (path, reason) of files that are not samples, such as hidden ones and our own by-products.
        broken: (path, reason) of samples that cannot be read; they take no part.
        notes: how many images each note of the reader holds for, such as "transparent, on white" or "blank".

    Raises:
        ValueError: there are none, they differ in size, or `arr_0` is not (N, H, W, 3) uint8.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        self.left_out: tuple[tuple[str, str], ...] = ()
        self.broken: tuple[tuple[str, str], ...] = ()
        self.notes: Counter[str] = Counter()
        self._array = None if self.path.is_dir() else _image_array(self.path)
        self._files = self._survey() if self._array is None else []

    def __len__(self) -> int:
        return len(self._files) if self._array is None else len(self._array)

    def read(self, indices: Sequence[int]) -> torch.Tensor:
        """(B, 3, H, W) float32 in [0, 1]. Raises ValueError if a file was changed since this object was made."""
        if self._array is not None:
            pixels = torch.from_numpy(np.stack([self._array[i] for i in indices])).permute(0, 3, 1, 2)
        else:
            pixels = torch.stack([self._read_file(self._files[i]) for i in indices])
        return pixels.float() / 255

    def digest(self) -> str:
        """SHA-256 of the npz file, or of the digests of the image files in order."""
        if self._array is not None:
            return file_digest(self.path)
        return hashlib.sha256("".join(seen.digest for seen in self._files).encode()).hexdigest()

    def _survey(self) -> list[Seen]:
        listing = list_images(self.path)
        found = list(survey(listing.files))
        files = [seen for _, seen in found if isinstance(seen, Seen)]
        self.left_out = listing.left_out
        self.broken = tuple((path, seen.reason) for path, seen in found if isinstance(seen, Skipped))
        self.notes = Counter(note for seen in files for note in seen.notes)
        if not files:
            why = f" that can be read ({self.broken[0][0]}: {self.broken[0][1]})" if self.broken else ""
            left = summary(reason for _, reason in self.left_out)
            raise ValueError(f"no images in {self.path}{why}" + (f"; left out: {left}" if left else ""))
        sizes = Counter(seen.size for seen in files).most_common()
        if len(sizes) > 1:
            listed = ", ".join(f"{count} of {width} x {height}" for (height, width), count in sizes[:5])
            raise ValueError(f"the images in {self.path} differ in size ({listed}); bring them to one size first")
        return files

    def _read_file(self, seen: Seen) -> torch.Tensor:
        decoded = read_image(seen.path)
        if isinstance(decoded, Skipped) or tuple(decoded.pixels.shape[1:]) != seen.size:
            raise ValueError(f"{seen.path} was changed while it was measured; start again")
        return decoded.pixels


def _extractor(text: str, path: Path) -> Mapping | str:
    try:
        value = parse_json(text)
    except ValueError:
        value = None
    if not isinstance(value, dict | str):
        raise ValueError(f"{path}: its extractor cannot be read; make the statistics again")
    return value


def _image_array(path: Path) -> np.ndarray:
    if "arr_0" not in (names := npz_names(path)):
        raise ValueError(f"{path} holds {', '.join(names)}, but images are called arr_0")
    array = read_npz(path, "arr_0")
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[-1] != 3 or not len(array):
        raise ValueError(f"{path}: images must be (N, H, W, 3) uint8, got {array.shape} {array.dtype}")
    return array
