"""What `diffusion-guidance detect` does: score files, and calibrate on the scores."""

import json
import sys
import warnings
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from tqdm import tqdm

from ..core.files import file_digest
from ..core.locking import locked_file
from ..detection.cautions import READING, ImageKinds, difference_cautions, encoder_cautions, sanity_table
from ..detection.results import ResultFile, encode_rows, note, settings_path
from ..detection.rigid import Detector
from ..detection.sanity import SAMPLES, sanity_check
from ..detection.scoring import batched, score_files
from ..detection.threshold import Calibration, calibrate, needed_samples
from ..images.listing import list_files
from ..images.reading import MAX_PIXELS, Picture, read_picture
from ..networks.encoders import Encoder, load_encoder
from .failures import DONE, PARTLY
from .options import find_device


SETTINGS: dict[str, Any] = {"noise": 0.05, "draws": 1, "method": "rigid"}


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


def run_detection(args: Namespace) -> int:
    """Calibrate or score; the exit code."""
    check(args)
    with nullcontext() if args.table is None else locked_file(args.table):
        tally = {"calibrate": run_calibrate, "score": run_score}[args.command](args)
    return PARTLY if tally.errors and not args.skip_errors else DONE


def run_calibrate(args: Namespace) -> Tally:
    detector = make_detector(args, None)
    tally = run(args, detector)
    tally.report()
    if tally.errors and not args.skip_errors:
        print("no calibration was written: take those files out, or give --skip-errors", file=sys.stderr)
        return tally
    files = distinct(tally)
    scores = torch.tensor([*files.values()], dtype=torch.float64)
    found = calibrate(scores, args.false_positive_rate, detector.identity, args.unsure_rate)
    checks = sanity_check(detector, pictures([*files], args.max_pixels), found.threshold)
    found = replace(found, images=ImageKinds.of(tally.kinds), sanity=checks)
    found.save(args.out)
    low, high = found.interval
    print(f"threshold {found.threshold:.6f} (95 % interval {low:.6f} to {high:.6f}) from {found.samples} images")
    print(sanity_table(checks, args.false_positive_rate))
    warn(found.cautions)
    return tally


def distinct(tally: Tally) -> dict[str, float]:
    """Scores by path, of files with different bytes: one that is there twice says nothing more about real images."""
    first: dict[str, tuple[str, float]] = {}
    for path, score in zip(tally.paths, tally.scores, strict=True):
        first.setdefault(file_digest(path), (path, score))
    if copies := len(tally.scores) - len(first):
        print(f"{copies} files are copies of others, or the same ones; each counts once", file=sys.stderr)
    return dict(first.values())


def pictures(paths: Sequence[str], max_pixels: int) -> Iterator[torch.Tensor]:
    """Some of these images, (1, 3, H, W) in [0, 1], spread over the list."""
    chosen = paths[:: -(-len(paths) // SAMPLES)]
    for path in tqdm(chosen, desc="sanity check", unit="image"):
        if isinstance(picture := read_picture(path, max_pixels), Picture):
            yield picture.pixels[None].float().div_(255)


def warn(cautions: Iterable[str]) -> None:
    for caution in cautions:
        print(f"caution: {caution}", file=sys.stderr)


def run_score(args: Namespace) -> Tally:
    calibration = Calibration.load(args.calibration) if args.calibration else None
    detector = make_detector(args, calibration)
    tally = run(args, detector)
    tally.report()
    cautions = encoder_cautions(detector.identity) if calibration is None else calibration.cautions
    if calibration is not None and calibration.images is not None:
        cautions += difference_cautions(tally.kinds, calibration.images, "those of the calibration")
    warn(cautions)
    if args.table is not None:
        note(args.table, {"cautions": cautions, "reading": READING})
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


def run(args: Namespace, detector: Detector) -> Tally:
    """Score what is not in `args.table` yet; without one, print. The tally is of all rows, old and new."""
    tally = Tally()

    def listed() -> Iterator[list[str]]:
        return batched(list_files(args.paths, args.own), args.batch_size)

    def scored(batches: Iterable[Sequence[str]]) -> Iterator[list[dict]]:
        return score_files(detector, batches, args.workers, args.max_pixels)

    warnings.filterwarnings("ignore", module="PIL")  # of damaged files; what matters is in their rows
    if args.table is None:
        batches: Iterator[Sequence[str]] = listed()
        sys.stdout.buffer.write(encode_rows([], ".csv", header=True))
    else:
        if args.overwrite and settings_path(args.table).is_file():  # without it, the file is not one of ours
            args.table.unlink(missing_ok=True)
            settings_path(args.table).unlink()
        results = ResultFile(args.table, settings(args, detector))
        if changed := results.changed(listed()):
            print(f"{len(changed)} batches have files that were changed; scoring them again", file=sys.stderr)
            again = (batch for position, batch in enumerate(listed()) if position in changed)
            results.replace(changed, scored(again), args.batch_size)
        batches = results.resume(listed(), tally.add)
    with tqdm(total=args.files, initial=tally.counts.total(), unit="file", desc="scoring") as progress:
        for rows in scored(batches):
            if args.table is None:
                sys.stdout.buffer.write(encode_rows(rows, ".csv"))
                sys.stdout.buffer.flush()
            else:
                results.append(rows)
            for row in rows:
                tally.add(row)
            progress.update(len(rows))
    return tally


def settings(args: Namespace, detector: Detector) -> dict:
    """All that a row depends on except the file, as JSON gives it back."""
    calibration = None if detector.calibration is None else json.loads(args.calibration.read_text(encoding="utf-8"))
    return {
        "identity": detector.identity,
        "calibration": calibration,
        "batch_size": args.batch_size,
        "max_pixels": args.max_pixels,
    }


def check(args: Namespace) -> None:
    """What can be refused before anything is loaded. Adds `table` (for rows), `own` files, and how many `files`."""
    if args.max_pixels > 2 * MAX_PIXELS:
        raise ValueError(f"--max-pixels can be {2 * MAX_PIXELS} at most: Pillow itself refuses larger images")
    if args.command == "calibrate":
        needed_samples(args.false_positive_rate)  # refuses a rate out of range
        if args.out.suffix != ".json":
            raise ValueError("--out of calibrate ends in .json")
        args.table, other = args.out.with_suffix(".scores.csv"), args.out
    else:
        args.table, other = args.out, args.calibration
    kept = args.table and settings_path(args.table)
    args.own = [path for path in (args.table, kept, other) if path]
    args.files = sum(1 for _ in list_files(args.paths, args.own))
    if not args.files:
        raise ValueError("there are no files in what was given")
