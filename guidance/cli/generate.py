"""Draw pictures with any diffusers pipeline and any guidance, one file a seed.

    diffusion-guidance generate assets/shapes --seeds 0-15 --steps 10 --out out/raag \\
        --guidance raag:w_max=10,alpha=8 --call max_sequence_length=1 \\
        --prompt "a red circle at the top left and a blue star at the bottom right on a dark background"

Guidance is applied in order: the first is nearest to the network. Known: cfg (weight, rescale), guidanceinterval (low,
high), raag (w_max, alpha), trace; each also takes start and stop, fractions of the steps. Without --guidance the
pipeline's own is used. A run that was killed goes on where it stopped when the same command is given again.
"""

import argparse
import inspect
import sys
from pathlib import Path

from .. import Trace, load_guidance, load_pipeline, parse_guidance, to_config
from ..evaluation.sampling import generate, keep_settings, parse_seeds, plan
from .arguments import parse_call, read_prompts


def parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("pipeline", help="directory or hub id of a diffusers pipeline")
    what = parse.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", action="append", help="may be given several times: each is drawn with every seed")
    what.add_argument("--prompts", type=Path, metavar="FILE", help="a text file, one prompt a line")
    what.add_argument("--classes", metavar="IDS", help="class ids of a class-conditional pipeline, such as 207,360")
    how = parse.add_mutually_exclusive_group()
    how.add_argument("--guidance", action="append", metavar="NAME:ARGUMENT=VALUE,...", help="may be repeated")
    how.add_argument(
        "--guidance-file", type=Path, metavar="FILE", help="JSON, as diffusion_guidance.save_guidance writes it"
    )
    parse.add_argument("--weight", type=float, help="the pipeline's own guidance_scale; must switch guidance on (> 1)")
    parse.add_argument("--steps", type=int, default=30, help="denoising steps (default 30)")
    parse.add_argument("--seeds", default="0", help="such as 0-63 or 0-9,20 (default 0)")
    parse.add_argument("--pair", action="store_true", help="one picture a seed: seed k takes prompt k, in rotation")
    parse.add_argument("--call", action="append", default=[], metavar="NAME=VALUE", help="more for the pipeline's call")
    parse.add_argument("--out", type=Path, default=Path("out/generate"), help="folder (default out/generate)")
    parse.add_argument("--batch-size", type=int, default=8, help="pictures at once; does not change them (default 8)")
    parse.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parse.add_argument("--device", help="default: cuda where there is one, else cpu")
    return parse


def conditions(args: argparse.Namespace) -> list[str] | list[int]:
    if args.classes:
        return [int(part) for part in args.classes.split(",")]
    return args.prompt or read_prompts(args.prompts)


def callbacks(args: argparse.Namespace) -> list:
    if args.guidance_file:
        return load_guidance(args.guidance_file)
    return [parse_guidance(text) for text in args.guidance or []]


def call_arguments(args: argparse.Namespace) -> dict:
    call = {"num_inference_steps": args.steps}
    if args.weight is not None:
        call["guidance_scale"] = args.weight
    return call | parse_call(args.call)


def run(args: argparse.Namespace) -> None:
    if args.steps < 1 or args.batch_size < 1:
        raise ValueError("--steps and --batch-size must be at least 1")
    guidance, call = callbacks(args), call_arguments(args)
    asked = conditions(args)
    pictures = plan(asked, parse_seeds(args.seeds), args.out, args.pair)
    pipe = load_pipeline(args.pipeline, args.dtype, args.device)
    known = inspect.signature(pipe.__call__).parameters
    if unknown := set(call) - set(known):
        raise ValueError(f"{type(pipe).__name__} takes no argument {', '.join(sorted(unknown))}")
    settings = {
        "pipeline": args.pipeline,
        "conditions": asked,
        "pair": args.pair,
        "guidance": to_config(guidance),
        "call": call,
        "dtype": args.dtype,
    }
    keep_settings(args.out, settings)
    drawn = sum(1 for _ in generate(pipe, pictures, guidance, args.batch_size, **call))
    print(f"{drawn} pictures drawn, {len(pictures) - drawn} were there already: {args.out}")
    for trace in (callback for callback in guidance if isinstance(callback, Trace) and callback.runs):
        print(f"trace: {trace.to_json(args.out / 'trace.json')}, {trace.plot(args.out / 'trace.png')}")


def main() -> None:
    args = parser().parse_args()
    try:
        run(args)
    except (ValueError, OSError) as error:
        print(f"generate.py: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
