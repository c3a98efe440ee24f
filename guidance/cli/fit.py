"""Find settings of RAAG for a model, in closed form from a few runs of its own pipeline.

    diffusion-guidance fit assets/shapes --call max_sequence_length=1 \\
        --prompt "a red circle at the top left and a blue star at the bottom right on a dark background"

Each run draws every prompt (or class id) once at the pipeline's own weight. RAAG then takes --first-weight at the first
step and --last-weight, or the pipeline's own weight, at the late ones. Printed are the ratios that were seen, the
weights of every step, and a line to paste; a plot shows both. Where the ratio does not fall, RAAG is not needed, and
plain guidance is what is printed.

With --weights 1.5,3,5 it also samples with plain guidance of each of these weights on the same noise, and prints the
error that DiffIER reduces, accumulated over the steps, and where it is least. Whether that is a good weight has to be
tried: docs/diffier.md has how often it was the best one.
"""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import at_least, number, parse_numbers
from .failures import blaming
from .options import Asked, Call, Model
from .parser import Parser, kind, path


if TYPE_CHECKING:
    from ..core.callback import Callback


def parser(prog: str) -> Parser:
    parse = Parser(prog=prog, description=__doc__)
    Model.add(parse)
    Asked.add(parse)
    Call.add(parse)
    text = "wanted at the first step (default 1.5)"
    parse.add_argument("--first-weight", type=kind(number), default=1.5, metavar="W", help=text)
    text = "wanted at the late steps (default: the pipeline's own weight)"
    parse.add_argument("--last-weight", type=kind(number), metavar="W", help=text)
    parse.add_argument("--runs", type=kind(at_least(1)), default=3, metavar="N", help="runs to trace (default 3)")
    text = "weights to compare by their accumulated error, such as 1.5,3,5"
    parse.add_argument("--weights", type=kind(parse_numbers), default=[], metavar="LIST", help=text)
    parse.add_argument("--out", type=path, default=Path("out/fit.png"), help="the plot (default out/fit.png)")
    return parse


def run(args: Namespace) -> None:
    from tqdm import tqdm

    from ..evaluation.sampling import sample
    from ..methods.fit import fit_raag
    from ..methods.fit_weight import fit_weight
    from .check_call import check_call

    if args.out.suffix not in (".png", ".pdf", ".svg"):
        raise ValueError("--out of fit ends in .png, .pdf or .svg")
    if args.weights and len(set(args.weights)) < 2:
        raise ValueError(f"--weights needs two or more to compare, got {args.weights[0]:g} alone")
    model, given = Model.of(args), Call.of(args)
    call, asked = given.arguments(), list(Asked.of(args).conditions)
    pipe = model.load()
    check_call(pipe, asked, call)

    def draw(number: int) -> None:
        first = number * len(asked)
        sample(pipe, asked, range(first, first + len(asked)), [], output_type="latent", **call)

    with blaming(given.more):
        fit = fit_raag(pipe, draw, args.first_weight, args.last_weight, args.runs)
    print(f"{fit}\n\n--guidance {command_line(fit.callback)}\n{fit.plot(args.out)}")
    if args.weights:
        with tqdm(total=len(set(args.weights)) * args.runs, unit="run", desc="weights") as progress:
            found = fit_weight(pipe, draw, args.weights, args.runs, progress.update)
        print(f"\n{found}\n{found.plot(args.out.with_stem(f'{args.out.stem}-weights'))}")
        if found.is_inside:
            print(f"--guidance {command_line(found.callback)}")


def command_line(callback: "Callback") -> str:
    """The plain callback as --guidance takes it."""
    from ..core.configuration import to_config

    ((config),) = to_config(callback)
    name = str(config.pop("callback")).lower()
    return f"{name}:" + ",".join(f"{key}={value}" for key, value in config.items() if value is not None)
