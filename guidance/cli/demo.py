"""Draw with the shipped checkpoints, each row of images with its metrics.

Emoji from text, plain CFG and RAAG at 5, 10 and 30 steps; digits by class, unguided, with CFG, and guided by a
classifier (EluCD). Writes two grids of images, the course of RAAG's ratio, and a report to --out. A few minutes on two
cores:

    diffusion-guidance demo
    diffusion-guidance demo --samples 500 --w-max 4.5 --alpha 2.9 --weight 3
"""

from argparse import Namespace
from pathlib import Path

from .arguments import at_least, number
from .parser import Parser, kind, path


def parser(prog: str) -> Parser:
    parse = Parser(prog=prog, description=__doc__)
    parse.add_argument("--out", type=path, default=Path("out/demo"), help="folder (default out/demo)")
    text = "images per row, for the metrics (default 100)"
    parse.add_argument("--samples", type=kind(at_least(2)), default=100, metavar="N", help=text)
    text = "prompts that the grid shows (default 8)"
    parse.add_argument("--columns", type=kind(at_least(1)), default=8, metavar="N", help=text)
    parse.add_argument("--weight", type=kind(number), default=5.0, metavar="W", help="of CFG (default 5)")
    text = "of RAAG, its weight where the ratio is 0 (default 9.54, fitted for CFG's 5 at the late steps)"
    parse.add_argument("--w-max", type=kind(number), default=9.54, metavar="W", help=text)
    text = "of RAAG, how fast its weight falls with the ratio (default 4.26)"
    parse.add_argument("--alpha", type=kind(number), default=4.26, metavar="A", help=text)
    return parse


def run(args: Namespace) -> None:
    if args.samples < args.columns:
        raise ValueError("--samples must be at least --columns")
    from .demo_run import Demo

    Demo(args.out, args.samples, args.columns, args.weight, args.w_max, args.alpha).run()
