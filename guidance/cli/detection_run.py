"""What `diffusion-guidance detect` does: score files, and calibrate on the scores."""

import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from tqdm import tqdm

from ..core.locking import locked_file
from ..detection.cautions import READING, ImageKinds, difference_cautions, encoder_cautions, sanity_table
from ..detection.results import note
from ..detection.sanity import SAMPLES, sanity_check
from ..detection.threshold import Calibration, calibrate, needed_samples
from ..images.reading import DecodedImage, read_image
from .detection_job import ScoringJob, Tally, distinct, make_detector, run, warn
from .detection_measure import run_measure
from .detection_page import write_score_page
from .failures import DONE, PARTLY


def run_detection(args: Namespace) -> int:
    """Calibrate, score or measure; the exit code."""
    tally = {"calibrate": run_calibrate, "score": run_score, "measure": run_measure}[args.command](args)
    return PARTLY if tally.errors and not args.skip_errors else DONE


def run_calibrate(args: Namespace) -> Tally:
    needed_samples(args.false_positive_rate)  # refuses a rate out of range
    if args.out.suffix != ".json":
        raise ValueError("--out of calibrate ends in .json")
    table = args.out.with_suffix(".scores.csv")
    job = ScoringJob.of(args, args.paths, [args.out], table)
    with locked_file(table):
        detector = make_detector(args, None)
        tally = run(job, detector)
        tally.report()
        if tally.errors and not args.skip_errors:
            print("no calibration was written: take those files out, or give --skip-errors", file=sys.stderr)
            return tally
        files = distinct(tally).values()
        scores = torch.tensor([score for _, score in files], dtype=torch.float64)
        found = calibrate(scores, args.false_positive_rate, detector.identity, args.unsure_rate)
        checks = sanity_check(detector, sample_images([path for path, _ in files], args.max_pixels), found.threshold)
        found = replace(found, images=ImageKinds.of(tally.kinds), sanity=checks)
        found.save(args.out)
    low, high = found.interval
    print(f"threshold {found.threshold:.6f} (95 % interval {low:.6f} to {high:.6f}) from {found.samples} images")
    print(sanity_table(checks, args.false_positive_rate))
    warn(found.cautions)
    return tally


def sample_images(paths: Sequence[str], max_pixels: int) -> Iterator[torch.Tensor]:
    """Some of these images, (1, 3, H, W) in [0, 1], spread over the list."""
    chosen = paths[:: -(-len(paths) // SAMPLES)]
    for path in tqdm(chosen, desc="sanity check", unit="image"):
        if isinstance(decoded := read_image(path, max_pixels), DecodedImage):
            yield decoded.pixels[None].float().div_(255)


def run_score(args: Namespace) -> Tally:
    if args.html and args.out is None:
        raise ValueError("--html shows the rows of a table; give --out too")
    own = [args.calibration, args.html]
    job = replace(ScoringJob.of(args, args.paths, own, args.out), calibration=args.calibration)
    with nullcontext() if job.table is None else locked_file(job.table):
        calibration = Calibration.load(args.calibration) if args.calibration else None
        detector = make_detector(args, calibration)
        tally = run(job, detector)
        cautions = encoder_cautions(detector.identity) if calibration is None else calibration.cautions
        if calibration is not None and calibration.images is not None:
            cautions += difference_cautions(tally.kinds, calibration.images, "those of the calibration")
        if job.table is not None:
            note(job.table, {"cautions": cautions, "reading": READING})
            if args.html:
                print(f"page: {write_score_page(args.html, job.table, calibration, cautions, args.max_pixels)}")
    tally.report()
    warn(cautions)
    return tally
