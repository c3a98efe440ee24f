"""Tell generated images from real ones: calibrate a detector on real images, score files, measure the detector.

    # Once: a threshold that 5 % of real images fall below. Give images like those you will judge.
    diffusion-guidance detect calibrate photos/ --encoder timm:vit_large_patch14_dinov2.lvd142m --out detector.json

    # Then: a row for each image, with the verdict "real", "generated" or "unsure".
    diffusion-guidance detect score downloads/ "more/**/*.jpg" one.png --calibration detector.json --out results.csv \\
        --html results.html

    # How well does it tell these apart, as they are and re-encoded? AUROC with intervals, a plot, a page.
    diffusion-guidance detect measure photos/ generated/ --out measured

Without --calibration there are scores and no verdicts; a lower score means generated. Without --out the rows are
printed as CSV. A killed run goes on when the same command is given again, and ends with the same bytes; files that were
changed since, in size or time, are scored again. Folders are searched with all that lies below, whatever the files are
called; names that begin with a dot are left out. Files that cannot be read get a row with the reason. Without a
network, give weights: --encoder timm:NAME:FILE.safetensors. See docs/detect.md.

Exit codes: 0 all files were scored; 3 some were not (with --skip-errors this is 0 too); 2 bad input.
"""

from argparse import Namespace

from .arguments import at_least, number
from .options import add_batch_size, add_device
from .parser import Parser, kind, path


#: As in `networks.encoders`, `detection.rigid` and `images.reading`, which are slow to import; a test compares.
ENCODER = "timm:vit_large_patch14_dinov2.lvd142m"
METHODS = ("rigid", "minder")
MAX_PIXELS = 89_478_485
SOURCE = "file, folder, or a glob in quotes; ** crosses folders"


def parser(prog: str) -> Parser:
    parse = Parser(prog=prog, description=__doc__)
    commands = parse.add_subparsers(dest="command", required=True)
    text = "find the threshold on real images"
    calibrate = commands.add_parser("calibrate", help=text, description=text)
    text = "score files, and judge them if the detector is calibrated"
    score = commands.add_parser("score", help=text, description=text)
    calibrate.add_argument("--out", type=path, required=True, help="JSON file; scores go next to it as CSV")
    text = "part of real images that may be called generated (default 0.05, which takes 72 images or more)"
    calibrate.add_argument("--false-positive-rate", type=kind(number), default=0.05, metavar="RATE", help=text)
    text = 'say "unsure" of images up to this quantile of the real ones (default: the threshold\'s interval)'
    calibrate.add_argument("--unsure-rate", type=kind(number), metavar="RATE", help=text)
    score.add_argument("--calibration", type=path, metavar="FILE", help="what calibrate wrote")
    score.add_argument("--out", type=path, metavar="FILE", help=".csv or .jsonl (default: print CSV)")
    text = "also a page with the images in the order of their scores; needs --out"
    score.add_argument("--html", type=path, metavar="FILE", help=text)
    text = "how well real and generated images are distinguished, as they are, as JPEG and resized"
    measure = commands.add_parser("measure", help=text, description=text)
    measure.add_argument("real", metavar="REAL", help=f"of real images: {SOURCE}")
    measure.add_argument("fake", metavar="FAKE", help="of generated ones")
    measure.add_argument("--out", type=path, required=True, metavar="FOLDER", help="for scores, report, plot and page")
    for sub in (calibrate, score):
        sub.add_argument("paths", nargs="+", metavar="PATH", help=SOURCE)
    for sub in (calibrate, score, measure):
        add_reading(sub)
        add_detector(sub)
    return parse


def add_reading(parser: Parser) -> None:
    add_batch_size(parser, 32, "files read at once")
    text = "threads that read and resize files (default 4)"
    parser.add_argument("--workers", type=kind(at_least(1)), default=4, metavar="N", help=text)
    text = f"skip larger images (default {MAX_PIXELS})"
    parser.add_argument("--max-pixels", type=kind(at_least(1)), default=MAX_PIXELS, metavar="N", help=text)
    parser.add_argument("--skip-errors", action="store_true", help="files that cannot be scored do not matter")
    parser.add_argument("--overwrite", action="store_true", help="start from nothing where --out exists")


def add_detector(parser: Parser) -> None:
    text = f"timm:NAME[:FILE], open_clip:NAME:TAG, torchvision:NAME[:FILE], local:FOLDER (default {ENCODER})"
    parser.add_argument("--encoder", default=ENCODER, metavar="KIND:NAME", help=text)
    text = "pixels per side for the encoder (default: its own)"
    parser.add_argument("--size", type=kind(at_least(1)), metavar="N", help=text)
    text = "lambda of the paper (default: the calibration's, else 0.05)"
    parser.add_argument("--noise", type=kind(number), help=text)
    text = "of the noise, averaged (default: the calibration's, else 1)"
    parser.add_argument("--draws", type=kind(at_least(1)), metavar="N", help=text)
    parser.add_argument("--method", choices=METHODS, help="default: the calibration's, else rigid")
    add_device(parser)


def run(args: Namespace) -> int:
    from .detection_run import run_detection

    return run_detection(args)
