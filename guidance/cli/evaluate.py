"""Measure guidance: sample many images and score them, compare sets of images, sweep over settings.

    diffusion-guidance evaluate run assets/shapes --world shapes --seeds 0-9999 --steps 10 --weight 3 --out out/cfg
    diffusion-guidance evaluate run MODEL --prompts prompts.txt --seeds 0-49999 --guidance raag:w_max=18,alpha=12 \\
        --extractor inception:weights.safetensors --reference VIRTUAL_imagenet512.npz --out out/raag
    diffusion-guidance evaluate score out/images reference.npz --extractor dinov2:weights.safetensors --out out/score
    diffusion-guidance evaluate sweep assets/shapes --world shapes --seeds 0-1999 --steps 5,10 --weights 1.5,3,6 \\
        --method none --method "raag:w_max={weight},alpha=8" --out out/sweep

A killed run goes on when the same command is given again, and ends with the same bytes. On several GPUs or nodes:
`accelerate launch -m diffusion_guidance evaluate run ...`, with one --out folder that all of them see. A reference is
a folder of images, the --out folder of a finished run, an npz file (edm's, ADM's) or safetensors statistics. See
docs/evaluation.md.
"""

from argparse import Namespace
from collections.abc import Callable
from functools import partial

from .arguments import at_least, parse_call, parse_numbers
from .measuring import Compared, Measuring
from .options import Call, Guided, Model, add_seeds
from .parser import Parser, kind, path


def parser(prog: str) -> Parser:
    parse = Parser(prog=prog, description=__doc__)
    commands = parse.add_subparsers(dest="command", required=True)
    text = "sample an image for each seed, and score them"
    run_parser = commands.add_parser("run", help=text, description=text)
    text = "runs over lists of methods, weights and steps, with curves"
    sweep_parser = commands.add_parser("sweep", help=text, description=text)
    text = "compare two sets of images"
    score_parser = commands.add_parser("score", help=text, description=text)
    for sub in (run_parser, sweep_parser):
        Model.add(sub)
        Compared.add(sub)
        add_seeds(sub)
        Call.add(sub, one=sub is run_parser)
        Measuring.add_scores(sub)
    Guided.add(run_parser)
    text = "callbacks as for --guidance, separated by blanks ({weight} is each weight in turn); a .json file; none"
    sweep_parser.add_argument("--method", action="append", required=True, metavar="TEXT", help=text)
    sweep_parser.add_argument("--weights", type=kind(parse_numbers), required=True, metavar="LIST", help="as 1.5,3,6")
    steps = kind(partial(parse_numbers, kind=at_least(1)))
    sweep_parser.add_argument("--steps", type=steps, default=[30], metavar="LIST", help="such as 5,10 (default 30)")
    score_parser.add_argument("images", type=path, help="folder, npz with arr_0, or a finished run")
    score_parser.add_argument("reference", type=path, help="the same, or statistics")
    score_parser.add_argument("--save-statistics", type=path, metavar="FILE", help="moments of the images")
    score_parser.add_argument("--device", help="such as cpu or cuda:1 (default: this process's GPU, else cpu)")
    for sub in (run_parser, sweep_parser, score_parser):
        Measuring.add(sub)
    return parse


def run(args: Namespace) -> None:
    from ..evaluation.run import locked_for_all
    from . import evaluation_run

    work: Callable[..., None]
    given: tuple
    if args.command == "score":
        if args.save_statistics and args.save_statistics.suffix != ".safetensors":
            raise ValueError("--save-statistics ends in .safetensors")
        work, given = evaluation_run.score, (args.images, args.reference, args.save_statistics)
    elif args.command == "run":
        call, guidance = Call.of(args), Guided.of(args).callbacks()
        work, given = evaluation_run.run, (Compared.of(args), Model.of(args), args.seeds, guidance, call)
    else:
        plan, more = evaluation_run.plan(args.method, args.weights), parse_call(args.call)
        work, given = evaluation_run.sweep, (Compared.of(args), Model.of(args), args.seeds, plan, args.steps, more)
    measuring = Measuring.of(args)
    with locked_for_all(args.out, measuring.state):
        work(measuring, *given)
