"""Check every file of a set before anything is computed: digest, size, notes, or why it cannot be read."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from ..core.files import file_digest
from .reading import MAX_PIXELS, Skipped, read_image


@dataclass(frozen=True)
class Seen:
    """A file that can be read.

    Attributes:
        path: of the file.
        digest: SHA-256 of its bytes.
        size: (height, width) in pixels, after the turn that EXIF asks for.
        notes: what had to be done to get RGB, see `DecodedImage`; "blank" where every pixel is the same.
    """

    path: str
    digest: str
    size: tuple[int, int]
    notes: tuple[str, ...]


def survey(
    paths: Iterable[str], max_pixels: int = MAX_PIXELS, workers: int | None = None
) -> Iterator[tuple[str, Seen | Skipped]]:
    """What was seen at each path, in order. Files are decoded by threads; memory is one image per thread."""
    workers = workers or min(8, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[str, Future[Seen | Skipped]]] = deque()
        try:
            for path in paths:
                waiting.append((path, pool.submit(_look, path, max_pixels)))
                if len(waiting) > 2 * workers:
                    path, future = waiting.popleft()
                    yield path, future.result()
            while waiting:
                path, future = waiting.popleft()
                yield path, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _look(path: str, max_pixels: int) -> Seen | Skipped:
    decoded = read_image(path, max_pixels)
    if isinstance(decoded, Skipped):
        return decoded
    height, width = decoded.pixels.shape[1:]
    notes = decoded.notes + (("blank",) if decoded.blank else ())
    try:
        return Seen(path, file_digest(path), (height, width), notes)
    except ValueError as error:  # it is gone
        return Skipped(str(error))
