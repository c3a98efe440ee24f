"""Load a side of a comparison by path: a finished run, statistics in a file, or images, whose features are stored."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..networks.extractors import Extractor
from .identity import check_extractors
from .run import collect, extractor_measure
from .sources import ImageSet, Reference, find_run, has_images, has_statistics, read_statistics, stored_extractor
from .store import ChunkStore


if TYPE_CHECKING:
    from accelerate import PartialState


def load_side(
    path: Path, extractor: Extractor | None, out: Path, batch_size: int = 16, state: "PartialState | None" = None
) -> ChunkStore:
    """The features of a finished run in the folder `path`, or those of the images there, stored in `out`.

    Args:
        path: folder of a run or of images, or npz file with `arr_0`.
        extractor: for images; None if `path` is a run.

    Raises:
        ValueError: there is nothing at `path`, a run of another extractor, images without an extractor, `out` in the
            folder of the images, or `find_run`'s and those of `ImageSet`.
    """
    path = Path(path)
    if not path.exists():
        raise ValueError(f"there is no {path}")
    if store := find_run(path):
        if extractor is not None:
            check_extractors(extractor.identity, stored_extractor(store))
        return store
    if path.is_dir() and Path(out).resolve().is_relative_to(path.resolve()):
        raise ValueError(f"{out} lies in the folder of the images {path}, which it would change; choose another --out")
    images = ImageSet(path)
    if extractor is None:
        raise ValueError(f"an extractor is needed to measure the images in {path}; give --extractor")
    settings = {"pictures": str(path), "sha256": images.digest(), "extractor": extractor.identity}
    measure, positions = extractor_measure(extractor), range(len(images))
    return collect(out, positions, lambda some: (images.read(some), {}), measure, settings, batch_size, state=state)


def load_reference(
    path: Path,
    extractor: Extractor | None,
    out: Path,
    features: bool = False,
    batch_size: int = 16,
    state: "PartialState | None" = None,
) -> Reference:
    """The reference at `path`: statistics in an npz or safetensors file, or anything that `load_side` reads.

    Of a file with statistics and images (ADM's) the statistics are used; with `features`, the features of its images
    are measured in addition, and the statistics are kept if they can come from the same extractor.

    Args:
        features: also hold the features of the single samples, which all metrics except the Frechet distance need.

    Raises:
        ValueError: as `load_side`.
    """
    if not has_statistics(path):
        return Reference.of_run(load_side(path, extractor, out, batch_size, state), features)
    stored = read_statistics(path)
    if not (features and extractor is not None and has_images(path)):
        return stored
    measured = Reference.of_run(load_side(path, extractor, out, batch_size, state), features)
    if measured.mean.shape != stored.mean.shape:
        return measured
    return replace(stored, features=measured.features, extractor=measured.extractor)
