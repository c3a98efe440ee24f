"""Sides of a comparison by path: a finished run, statistics in a file, or pictures, whose features are stored."""

from pathlib import Path

from ..networks.extractors import Extractor
from .run import collect, extractor_measure
from .sources import Pictures, Reference, find_run, has_statistics, read_statistics
from .store import ChunkStore


def load_side(path: Path, extractor: Extractor | None, out: Path, batch_size: int = 16, state=None) -> ChunkStore:
    """The features of a finished run in the folder `path`, or those of the pictures there, stored in `out`.

    Args:
        path: folder of a run or of pictures, or npz file with `arr_0`.
        extractor: for pictures; None if `path` is a run.

    Raises:
        ValueError: there is nothing at `path`, or pictures without an extractor, or `find_run`'s and `Pictures`' own.
    """
    if not Path(path).exists():
        raise ValueError(f"there is no {path}")
    if store := find_run(path):
        return store
    if extractor is None:
        raise ValueError(f"an extractor is needed to measure the images in {path}; give --extractor")
    pictures = Pictures(path)
    settings = {"pictures": str(path), "sha256": pictures.digest(), "extractor": extractor.name}
    measure, positions = extractor_measure(extractor), range(len(pictures))
    return collect(out, positions, lambda some: (pictures.read(some), {}), measure, settings, batch_size, state=state)


def load_reference(
    path: Path, extractor: Extractor | None, out: Path, features: bool = False, batch_size: int = 16, state=None
) -> Reference:
    """The reference at `path`: statistics in an npz or safetensors file, or anything that `load_side` reads.

    Args:
        features: also hold the features of the single samples, which all measures but the Frechet distance need.

    Raises:
        ValueError: as `load_side`.
    """
    if has_statistics(path):
        return read_statistics(path)
    return Reference.of_run(load_side(path, extractor, out, batch_size, state), features)
