"""Tell generated pictures from real ones: calibrate a detector on real pictures, then score files with it.

    # Once: a threshold that 5 % of real pictures fall below. Give pictures like those you will judge.
    diffusion-guidance detect calibrate photos/ --encoder timm:vit_large_patch14_dinov2.lvd142m --out detector.json

    # Then: a row a picture, with the verdict "real", "generated" or "unsure".
    diffusion-guidance detect score downloads/ "more/**/*.jpg" one.png --calibration detector.json --out results.csv

Without --calibration there are scores and no verdicts; a lower score means generated. Without --out the rows are
printed as CSV. A killed run goes on when the same command is given again, and ends with the same bytes; files that were
changed since, in size or time, are scored again. Folders are searched with all that lies below, whatever the files are
called; names that begin with a dot are left out. Files that cannot be read get a row with the reason. No network? Give
weights: --encoder timm:NAME:FILE.safetensors. See docs/detect.md.

Exit codes: 0 all files were scored; 3 some were not (with --skip-errors this is 0 too); 2 bad arguments.
"""

import argparse
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ..detection.results import ResultFile, encode_rows, settings_path
from ..detection.rigid import METHODS, Detector
from ..detection.scoring import batched, score_files
from ..detection.threshold import Calibration, calibrate, needed_samples
from ..images.listing import list_files
from ..images.reading import MAX_PIXELS
from ..networks.encoders import DEFAULT, load_encoder


NOT_ALL = 3  # exit code; Python itself ends a crash with 1, and argparse bad arguments with 2
SETTINGS = {"noise": 0.05, "draws": 1, "method": "rigid"}


class Tally:
    """Counts rows, and keeps the scores and the first few errors."""

    def __init__(self):
        self.counts: Counter[str] = Counter()
        self.scores: list[float] = []
        self.errors: list[str] = []

    def add(self, row: dict) -> None:
        if row["error"]:
            self.counts["not scored"] += 1
            if len(self.errors) < 5:
                self.errors.append(f"{row['path']!r}: {row['error']}")
        else:
            self.counts[row["verdict"] or "scored"] += 1
            self.scores.append(float(row["score"]))

    def report(self) -> None:
        """To stderr, since rows may go to stdout."""
        for error in self.errors:
            print(f"not scored: {error}", file=sys.stderr)
        print(", ".join(f"{count} {name}" for name, count in sorted(self.counts.items())), file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parse.add_subparsers(dest="command", required=True)
    calibrate_parser = commands.add_parser("calibrate", help="find the threshold on real pictures")
    calibrate_parser.add_argument("--out", type=Path, required=True, help="JSON file; scores go beside it as CSV")
    calibrate_parser.add_argument(
        "--false-positive-rate",
        type=float,
        default=0.05,
        metavar="RATE",
        help="part of real pictures that may be called generated (default 0.05, which takes 72 pictures or more)",
    )
    calibrate_parser.add_argument(
        "--unsure-rate",
        type=float,
        metavar="RATE",
        help='say "unsure" of pictures up to this quantile of the real ones (default: the threshold\'s interval)',
    )
    score_parser = commands.add_parser("score", help="score files, and judge them if the detector is calibrated")
    score_parser.add_argument("--calibration", type=Path, metavar="FILE", help="what calibrate wrote")
    score_parser.add_argument("--out", type=Path, metavar="FILE", help=".csv or .jsonl (default: print CSV)")
    for sub in (calibrate_parser, score_parser):
        sub.add_argument(
            "paths", nargs="+", metavar="PATH", help="file, folder, or a glob in quotes; ** crosses folders"
        )
        sub.add_argument(
            "--encoder",
            default=DEFAULT,
            metavar="KIND:NAME",
            help=f"timm:NAME[:FILE], open_clip:NAME:TAG, torchvision:NAME[:FILE], local:FOLDER (default {DEFAULT})",
        )
        sub.add_argument("--size", type=int, help="pixels a side for the encoder (default: its own)")
        sub.add_argument("--noise", type=float, help="lambda of the paper (default: the calibration's, else 0.05)")
        sub.add_argument("--draws", type=int, help="of the noise, averaged (default: the calibration's, else 1)")
        sub.add_argument("--method", choices=METHODS, help="default: the calibration's, else rigid")
        sub.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
        sub.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
        sub.add_argument("--batch-size", type=int, default=32, help="files read at once (default 32)")
        sub.add_argument("--workers", type=int, default=4, help="threads that read and resize files (default 4)")
        sub.add_argument(
            "--max-pixels", type=int, default=MAX_PIXELS, help=f"skip larger pictures (default {MAX_PIXELS})"
        )
        sub.add_argument("--skip-errors", action="store_true", help="files that cannot be scored do not matter")
        sub.add_argument("--overwrite", action="store_true", help="start anew where --out exists")
    return parse


def main() -> None:
    args = parser().parse_args()
    try:
        check(args)
        tally = {"calibrate": run_calibrate, "score": run_score}[args.command](args)
    except (ValueError, OSError) as error:
        print(f"detect.py: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(NOT_ALL if tally.errors and not args.skip_errors else 0)


def run_calibrate(args: argparse.Namespace) -> Tally:
    detector = make_detector(args, None)
    tally = run(args, detector)
    tally.report()
    if tally.errors and not args.skip_errors:
        print("no calibration was written: take those files out, or give --skip-errors", file=sys.stderr)
        return tally
    scores = torch.tensor(tally.scores, dtype=torch.float64)
    found = calibrate(scores, args.false_positive_rate, detector.identity, args.unsure_rate)
    found.save(args.out)
    low, high = found.interval
    print(f"threshold {found.threshold:.6f} (95 % interval {low:.6f} to {high:.6f}) from {found.samples} pictures")
    return tally


def run_score(args: argparse.Namespace) -> Tally:
    calibration = Calibration.load(args.calibration) if args.calibration else None
    tally = run(args, make_detector(args, calibration))
    tally.report()
    return tally


def make_detector(args: argparse.Namespace, calibration: Calibration | None) -> Detector:
    known = SETTINGS | ({name: calibration.identity.get(name) for name in SETTINGS} if calibration else {})
    settings = {name: value if getattr(args, name) is None else getattr(args, name) for name, value in known.items()}
    encoder = load_encoder(args.encoder, args.device, args.size)
    if args.dtype != "float32":
        encoder = encoder.to(dtype=getattr(torch, args.dtype))
    if encoder.size is None:
        raise ValueError("this encoder has no size of its own: give --size")
    return Detector(encoder, **settings, calibration=calibration, batch=args.batch_size)


def run(args: argparse.Namespace, detector: Detector) -> Tally:
    """Score what is not in `args.table` yet; without one, print. The tally is of all rows, old and new."""
    tally = Tally()

    def listed() -> Iterator[list[str]]:
        return batched(list_files(args.paths, args.own), args.batch_size)

    def scored(batches: Iterable[Sequence[str]]) -> Iterator[list[dict]]:
        return score_files(detector, batches, args.workers, args.max_pixels)

    warnings.filterwarnings("ignore", module="PIL")  # of damaged files; what matters is in their rows
    if args.table is None:
        batches = listed()
        sys.stdout.buffer.write(encode_rows([], ".csv", header=True))
    else:
        results = ResultFile(args.table, settings(args, detector))
        if changed := results.changed(listed()):
            print(f"{len(changed)} batches have files that were changed; scoring them again", file=sys.stderr)
            again = (batch for position, batch in enumerate(listed()) if position in changed)
            results.replace(changed, scored(again), args.batch_size)
        batches = results.resume(listed(), tally.add)
    with tqdm(total=args.files, initial=tally.counts.total(), unit="file") as progress:
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


def settings(args: argparse.Namespace, detector: Detector) -> dict:
    """All that a row depends on but the file, as JSON gives it back."""
    calibration = None if detector.calibration is None else json.loads(args.calibration.read_text(encoding="utf-8"))
    return {
        "identity": detector.identity,
        "calibration": calibration,
        "batch_size": args.batch_size,
        "max_pixels": args.max_pixels,
    }


def check(args: argparse.Namespace) -> None:
    """What can be refused before anything is loaded. Adds `table` (for rows), `own` files, and how many `files`."""
    for name in ("batch_size", "workers", "max_pixels"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")
    if args.max_pixels > 2 * MAX_PIXELS:
        raise ValueError(f"--max-pixels can be {2 * MAX_PIXELS} at most: Pillow itself refuses larger pictures")
    if args.command == "calibrate":
        needed_samples(args.false_positive_rate)  # refuses a rate out of range
        if args.out.suffix != ".json":
            raise ValueError("--out of calibrate ends in .json")
        args.table, other = args.out.with_suffix(".scores.csv"), args.out
    else:
        args.table, other = args.out, args.calibration
    beside = args.table and settings_path(args.table)
    args.own = [path for path in (args.table, beside, other) if path]
    args.files = sum(1 for _ in list_files(args.paths, args.own))
    if not args.files:
        raise ValueError("there are no files in what was given")
    if args.overwrite and beside and beside.is_file():  # without it, the file is not one of ours
        args.table.unlink(missing_ok=True)
        beside.unlink()


if __name__ == "__main__":
    main()
