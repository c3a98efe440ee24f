"""The measurements of a run on disk: one file per chunk of samples, with a checksum, each whole or absent."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..core.files import sweep, write_atomic
from ..networks.weights import tensors_sha256 as _digest
from .metrics.moments import Moments


CHUNK = 64  # samples per file; the same for all batch sizes and numbers of processes, so that sums run in one order


class ChunkStore:
    """Arrays with one row per sample, in files of `chunk` samples; memory is one chunk unless all are asked for.

    Which samples are in which file depends on their positions alone. So a killed run that is started again writes the
    same files as an undisturbed run, and everything computed from them, in order, has the same bits.

    Args:
        folder: of the files.
        samples: how many samples the run has, finished or not.
        chunk: samples per file.
    """

    def __init__(self, folder: Path, samples: int, chunk: int = CHUNK):
        if samples < 1 or chunk < 1:
            raise ValueError(f"a run needs at least one sample, and one in a file, got {samples} and {chunk}")
        self.folder, self.samples, self.chunk = Path(folder), samples, chunk

    @property
    def chunks(self) -> list[range]:
        """The positions of the samples in each file."""
        return [range(i, min(i + self.chunk, self.samples)) for i in range(0, self.samples, self.chunk)]

    def path(self, chunk: range) -> Path:
        return self.folder / f"{chunk.start:08d}-{chunk.stop:08d}.safetensors"

    def missing(self) -> list[range]:
        """The chunks without a whole file; a changed bit is noticed, and the chunk is then missing."""
        return [chunk for chunk in self.chunks if not self._whole(chunk)]

    def write(self, chunk: range, arrays: dict[str, torch.Tensor]) -> None:
        """Store arrays of len(chunk) rows each, atomically."""
        arrays = {name: values.detach().cpu().contiguous() for name, values in arrays.items()}
        if wrong := [name for name, values in arrays.items() if len(values) != len(chunk)]:
            raise ValueError(f"{', '.join(wrong)}: expected one row for each of {len(chunk)} samples")
        facts = {"sha256": _digest(arrays)}
        write_atomic(self.path(chunk), lambda temporary: save_file(arrays, temporary, metadata=facts))

    def sweep(self) -> None:
        """Delete what killed processes left half written."""
        sweep(self.folder)

    def names(self) -> list[str]:
        """The arrays that every sample has (the first ones may have more)."""
        with safe_open(self.path(self.chunks[-1]), framework="pt") as file:
            return sorted(file.keys())

    def rows(self, name: str) -> Iterator[torch.Tensor]:
        """One array, chunk by chunk in order. Raises ValueError if a chunk is missing or has no such array."""
        for chunk in self.chunks:
            try:
                with safe_open(self.path(chunk), framework="pt") as file:
                    yield file.get_tensor(name)
            except (OSError, SafetensorError) as error:
                raise ValueError(f"no {name} for samples {chunk.start} to {chunk.stop - 1}: {error}") from None

    def array(self, name: str) -> np.ndarray:
        """One array of all samples, in memory."""
        return torch.cat(list(self.rows(name))).numpy()

    def moments(self, parts: int, name: str = "features") -> list[Moments]:
        """Moments of `parts` runs of consecutive samples of about equal length, in one pass."""
        bounds = [i * self.samples // parts for i in range(parts + 1)]
        result = [Moments() for _ in range(parts)]
        for chunk, rows in zip(self.chunks, self.rows(name), strict=True):
            for part, (start, stop) in zip(result, itertools.pairwise(bounds), strict=True):
                part.update(rows[max(start - chunk.start, 0) : max(stop - chunk.start, 0)])
        return result

    def _whole(self, chunk: range) -> bool:
        try:
            with safe_open(self.path(chunk), framework="pt") as file:
                facts = file.metadata() or {}  # chunks of earlier versions have none
                return "sha256" not in facts or facts["sha256"] == _digest(
                    {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                )
        except (OSError, SafetensorError):
            return False
