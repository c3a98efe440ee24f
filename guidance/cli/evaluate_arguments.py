"""The arguments of `diffusion-guidance evaluate`."""

import argparse
from pathlib import Path

from ..evaluation.metrics.registry import MEASURES
from ..worlds.subjects import WORLDS


def parser(description: str) -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parse.add_subparsers(dest="command", required=True)
    run_parser = commands.add_parser("run", help="sample a picture for each seed, and score them")
    sweep_parser = commands.add_parser("sweep", help="runs over lists of methods, weights and steps, with curves")
    score_parser = commands.add_parser("score", help="compare two sets of pictures")
    for sub in (run_parser, sweep_parser):
        sub.add_argument("pipeline", help="directory or hub id of a diffusers pipeline")
        what = sub.add_mutually_exclusive_group(required=True)
        what.add_argument("--world", choices=WORLDS, help="prompts, measures and reference of this world")
        what.add_argument("--prompts", type=Path, metavar="FILE", help="one prompt a line; seeds take them in rotation")
        what.add_argument("--classes", metavar="IDS", help="class ids such as 0-999; seeds take them in rotation")
        sub.add_argument("--seeds", required=True, help="such as 0-9999")
        sub.add_argument("--call", action="append", default=[], metavar="NAME=VALUE", help="more for the pipeline")
        sub.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
        sub.add_argument("--reference", type=Path, metavar="PATH", help="what the pictures are compared with")
        sub.add_argument(
            "--world-samples",
            type=int,
            metavar="N",
            help="draw N scenes of the shapes world as its reference (default: stored moments of 20,000)",
        )
    run_parser.add_argument("--guidance", action="append", default=[], metavar="NAME:ARGUMENT=VALUE,...")
    run_parser.add_argument("--weight", type=float, help="the pipeline's own guidance_scale")
    run_parser.add_argument("--steps", type=int, default=30, help="denoising steps (default 30)")
    sweep_parser.add_argument(
        "--method",
        action="append",
        required=True,
        metavar="TEXT",
        help="callbacks in their short form, separated by blanks, in which {weight} stands for each weight; or none",
    )
    sweep_parser.add_argument("--weights", required=True, metavar="LIST", help="such as 1.5,3,6")
    sweep_parser.add_argument("--steps", default="30", metavar="LIST", help="such as 5,10 (default 30)")
    score_parser.add_argument("pictures", type=Path, help="folder, npz with arr_0, or a finished run")
    score_parser.add_argument("reference", type=Path, help="the same, or statistics")
    score_parser.add_argument("--save-statistics", type=Path, metavar="FILE", help="moments of the pictures")
    for sub in (run_parser, sweep_parser, score_parser):
        sub.add_argument("--extractor", metavar="NAME[:WEIGHTS]", help="inception, dinov2, clip, shapes or digits")
        sub.add_argument("--measure", action="append", choices=MEASURES, help="may be repeated (default: frechet)")
        sub.add_argument("--batch-size", type=int, default=16)
        sub.add_argument("--device", help="default: this process's GPU where there is one, else cpu")
        sub.add_argument("--out", type=Path, required=True, help="folder for what is measured and for the report")
    return parse
