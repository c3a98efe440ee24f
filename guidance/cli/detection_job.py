"""Score files with a detector: which files, where their rows go, and a summary."""

import json
import sys
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from ..core.files import file_digest
from ..detection.results import ResultFile, encode_rows, settings_path
from ..detection.rigid import Detector
from ..detection.scoring import batched, score_files
from ..detection.threshold import Calibration
from ..images.listing import list_files
from ..images.reading import MAX_PIXELS
from ..networks.encoders import Encoder, load_encoder
from .options import find_device


SETTINGS: dict[str, Any] = {"noise": 0.05, "draws": 1, "method": "rigid"}


@dataclass(frozen=True)
class ScoringJob:
    """Files to score, and where their rows go.

    Attributes:
        own: files of ours, which are not scored wherever they lie.
        table: for the rows; None prints them.
        files: how many there are.
        calibration: the file by which they are judged.
        change: of `corruptions`, that every image goes through first.
        title: of the progress bar.
    """

    paths: Sequence[str]
    own: Sequence[Path]
    table: Path | None
    files: int
    batch_size: int
    workers: int
    max_pixels: int
    overwrite: bool
    calibration: Path | None = None
    change: str = "none"
    title: str = "scoring"

    @classmethod
    def of(cls, args: Namespace, paths: Sequence[str], own: Iterable[Path | None], table: Path | None) -> "ScoringJob":
        """What can be refused before anything is loaded is refused."""
        if args.max_pixels > 2 * MAX_PIXELS:
            raise ValueError(f"--max-pixels can be {2 * MAX_PIXELS} at most: Pillow itself refuses larger images")
        kept = [path for path in (table, table and settings_path(table), *own) if path]
        files = sum(1 for _ in list_files(paths, kept))
        if not files:
            raise ValueError(f"there are no files in {', '.join(paths)}")
        return cls(paths, kept, table, files, args.batch_size, args.workers, args.max_pixels, args.overwrite)

    def listed(self) -> Iterator[list[str]]:
        return batched(list_files(self.paths, self.own), self.batch_size)

    def settings(self, detector: Detector) -> dict:
        """All that a row depends on except the file, as JSON gives it back."""
        return {
            "identity": detector.identity,
            "calibration": self.calibration and json.loads(self.calibration.read_text(encoding="utf-8")),
            "batch_size": self.batch_size,
            "max_pixels": self.max_pixels,
        } | ({} if self.change == "none" else {"change": self.change})


class Tally:
    """Counts rows, and keeps the scores and the first few errors."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.scores: list[float] = []
        self.paths: list[str] = []  # of the scores
        self.kinds: Counter[tuple[str, int]] = Counter()  # format and pixels
        self.errors: list[str] = []

    def add(self, row: dict) -> None:
        if row["error"]:
            self.counts["not scored"] += 1
            if len(self.errors) < 5:
                self.errors.append(f"{row['path']!r}: {row['error']}")
        else:
            self.counts[row["verdict"] or "scored"] += 1
            self.scores.append(float(row["score"]))
            self.paths.append(row["path"])
            self.kinds[row["format"], int(row["width"]) * int(row["height"])] += 1

    def report(self) -> None:
        """To stderr, since rows may go to stdout."""
        for error in self.errors:
            print(f"not scored: {error}", file=sys.stderr)
        print(", ".join(f"{count} {name}" for name, count in sorted(self.counts.items())), file=sys.stderr)


def run(job: ScoringJob, detector: Detector) -> Tally:
    """Score what is not in the job's table yet; without one, print. The tally is of all rows, old and new."""
    tally = Tally()

    def scored(batches: Iterable[Sequence[str]]) -> Iterator[list[dict]]:
        return score_files(detector, batches, job.workers, job.max_pixels, job.change)

    warnings.filterwarnings("ignore", module="PIL")  # of damaged files; what matters is in their rows
    if job.table is None:
        batches: Iterator[Sequence[str]] = job.listed()
        sys.stdout.buffer.write(encode_rows([], ".csv", header=True))
    else:
        if job.overwrite and settings_path(job.table).is_file():  # without it, the file is not one of ours
            job.table.unlink(missing_ok=True)
            settings_path(job.table).unlink()
        results = ResultFile(job.table, job.settings(detector))
        if changed := results.changed(job.listed()):
            print(f"{len(changed)} batches have files that were changed; scoring them again", file=sys.stderr)
            again = (batch for position, batch in enumerate(job.listed()) if position in changed)
            results.replace(changed, scored(again), job.batch_size)
        batches = results.resume(job.listed(), tally.add)
    with tqdm(total=job.files, initial=tally.counts.total(), unit="file", desc=job.title) as progress:
        for rows in scored(batches):
            if job.table is None:
                sys.stdout.buffer.write(encode_rows(rows, ".csv"))
                sys.stdout.buffer.flush()
            else:
                results.append(rows)
            for row in rows:
                tally.add(row)
            progress.update(len(rows))
    return tally


def make_detector(args: Namespace, calibration: Calibration | None) -> Detector:
    known = SETTINGS | ({name: calibration.identity.get(name) for name in SETTINGS} if calibration else {})
    known = {name: value if type(value) is type(SETTINGS[name]) else SETTINGS[name] for name, value in known.items()}
    settings = {name: value if getattr(args, name) is None else getattr(args, name) for name, value in known.items()}
    encoder = load_encoder(args.encoder, find_device(args.device), args.size)
    if args.dtype != "float32":
        encoder = encoder.to(dtype=getattr(torch, args.dtype))
    if encoder.size is None:
        raise ValueError("this encoder has no size of its own: give --size")
    if args.size is not None:
        check_size(encoder, encoder.size)
    return Detector(encoder, **settings, calibration=calibration, batch=args.batch_size)


def check_size(encoder: Encoder, size: int) -> None:
    """Raise ValueError if the encoder cannot see images of the size that was given."""
    try:
        encoder.features(torch.zeros(1, 3, size, size, device=encoder.device))
    except (RuntimeError, AssertionError, IndexError) as error:
        raise ValueError(f"--size {size} does not suit this encoder: {str(error).splitlines()[0]}") from None


def distinct(tally: Tally) -> dict[str, tuple[str, float]]:
    """Path and score by digest: copies of a file count once."""
    first: dict[str, tuple[str, float]] = {}
    for path, score in zip(tally.paths, tally.scores, strict=True):
        first.setdefault(file_digest(path), (path, score))
    if copies := len(tally.scores) - len(first):
        print(f"{copies} files are copies of others, or the same ones; each counts once", file=sys.stderr)
    return first


def warn(cautions: Iterable[str]) -> None:
    for caution in cautions:
        print(f"caution: {caution}", file=sys.stderr)
