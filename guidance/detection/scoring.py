"""Scores of image files: read and resized by threads, scored in batches, yielded in the order of the paths."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import torch

from ..images.reading import MAX_PIXELS, Skipped, read_image
from .corruptions import corrupt
from .results import FIELDS, file_stamp
from .rigid import Detector


DIGITS = 6  # of a score; below them, the rounding of batched kernels


def batched(paths: Iterable[str], size: int) -> Iterator[list[str]]:
    """Lists of `size` paths, the last one shorter."""
    paths = iter(paths)
    while batch := list(islice(paths, size)):
        yield batch


def score_files(
    detector: Detector,
    batches: Iterable[Sequence[str]],
    workers: int = 2,
    max_pixels: int = MAX_PIXELS,
    change: str = "none",
) -> Iterator[list[dict]]:
    """For each batch of paths its rows, with `FIELDS`; `error` says why a file has no score.

    Threads read one batch ahead, so two batches of encoder inputs and one image per worker are in memory. Pillow and
    torch release the interpreter lock while they decode and resize.

    Args:
        detector: its encoder has a size, so that images of all sizes make one batch.
        workers: threads.
        max_pixels: larger images get an error; see `read_image`.
        change: of `corruptions`, that every image goes through first.
    """
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[list[Future]] = deque()
        try:
            for batch in batches:
                waiting.append([pool.submit(load, detector, path, max_pixels, change) for path in batch])
                if len(waiting) > 1:
                    yield _score(detector, waiting.popleft())
            while waiting:
                yield _score(detector, waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def load(
    detector: Detector, path: str, max_pixels: int = MAX_PIXELS, change: str = "none"
) -> tuple[dict, tuple[torch.Tensor, torch.Tensor] | None]:
    """The row of one file, and its prepared image; None if it is not scored, and `error` says why."""
    row = dict.fromkeys(FIELDS) | {"path": path} | file_stamp(path)  # before it is read: what comes later is a change
    decoded = read_image(path, max_pixels)
    if isinstance(decoded, Skipped):
        return row | {"error": decoded.reason}, None
    height, width = decoded.pixels.shape[1:]
    row |= {"width": width, "height": height, "format": decoded.format, "note": "; ".join(decoded.notes) or None}
    if decoded.blank:
        return row | {"error": "blank: every pixel has the same colour"}, None
    try:
        image = decoded.pixels[None].float().div_(255)
        return row, detector.prepare(image if change == "none" else corrupt(image, change))
    # Of memory, or of a side that is too long for a format: one huge image must not end the run.
    except (RuntimeError, MemoryError, OSError, ValueError) as error:
        return row | {"error": f"cannot be prepared: {' '.join(str(error).split())[:150]}"}, None


def _score(detector: Detector, futures: list[Future]) -> list[dict]:
    loaded = [future.result() for future in futures]
    futures.clear()  # they hold the images
    prepared = [inputs for _, inputs in loaded if inputs is not None]
    rows = [row for row, inputs in loaded if inputs is not None]
    if prepared:
        inputs, seeds = (torch.cat(parts) for parts in zip(*prepared, strict=True))
        scores = detector.score_prepared(inputs, seeds).tolist()
        for row, score in zip(rows, scores, strict=True):
            if math.isfinite(score):
                row["score"] = round(score, DIGITS)
            else:
                row["error"] = f"the encoder's features give a score of {score}"
    rows = [row for row in rows if row["error"] is None]
    if detector.calibration is not None and rows:
        # Judged as written, so that a reader of the file comes to the same verdicts.
        written = torch.tensor([row["score"] for row in rows], dtype=torch.float64)
        for row, verdict in zip(rows, detector.verdict(written), strict=True):
            row["verdict"] = verdict
    return [row for row, _ in loaded]
