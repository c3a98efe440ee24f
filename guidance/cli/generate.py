"""Draw images with any diffusers pipeline and any guidance, one file a seed.

    diffusion-guidance generate assets/shapes --seeds 0-15 --steps 10 --out out/raag \\
        --guidance raag:w_max=10,alpha=8 --call max_sequence_length=1 \\
        --prompt "a red circle at the top left and a blue star at the bottom right on a dark background"

Guidance is applied in order: the first is nearest to the network. Without --guidance the pipeline's own is used. What
can be given:

{methods}
    Each also takes start and stop, fractions of the steps.
    Any guider of diffusers by name:     --guidance AdaptiveProjectedGuidance:guidance_scale=5
    A subclass of Callback of your own:  --guidance package.module:Class:argument=value

A run that was killed goes on where it stopped when the same command is given again.
"""

import textwrap
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from .failures import blaming
from .methods import described
from .options import Asked, Call, Guided, Model, add_batch_size, add_seeds
from .parser import Parser


if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def parser(prog: str) -> Parser:
    methods = textwrap.fill(described(), 116, initial_indent="    ", subsequent_indent="    ")
    parse = Parser(prog=prog, description=(__doc__ or "").replace("{methods}", methods))
    Model.add(parse)
    Asked.add(parse)
    Guided.add(parse)
    Call.add(parse)
    add_seeds(parse, default="0")
    parse.add_argument("--pair", action="store_true", help="one image a seed: seed k takes prompt k, in rotation")
    parse.add_argument("--out", type=Path, default=Path("out/generate"), help="folder (default out/generate)")
    add_batch_size(parse, 8)
    return parse


def run(args: Namespace) -> None:
    from ..core.configuration import to_config
    from ..evaluation.sampling import generate, keep_settings, plan
    from ..methods.trace import Trace

    model, given = Model.of(args), Call.of(args)
    call = given.arguments()
    asked, guidance = Asked.of(args).conditions, Guided.of(args).callbacks()
    settings = {
        "pipeline": model.name,
        "conditions": asked,
        "pair": args.pair,
        "guidance": to_config(guidance),
        "call": call,
        "dtype": model.dtype,
    }
    images = plan(asked, args.seeds, args.out, args.pair)
    pipe = model.load()
    check_call(pipe, max(asked) if isinstance(asked[0], int) else asked[0], call)
    keep_settings(args.out, settings)
    with blaming(given.more):
        drawn = sum(1 for _ in generate(pipe, images, guidance, args.batch_size, **call))
    print(f"{drawn} images drawn, {len(images) - drawn} were there already: {args.out}")
    for trace in (callback for callback in guidance if isinstance(callback, Trace) and callback.runs):
        print(f"trace: {trace.to_json(args.out / 'trace.json')}, {trace.plot(args.out / 'trace.png')}")


def check_call(pipe: "DiffusionPipeline", condition: str | int, call: dict[str, object]) -> None:
    """Raise ValueError if the pipeline's call does not take what it is to be given."""
    import inspect

    known, name = inspect.signature(pipe.__call__).parameters, type(pipe).__name__
    given = "class_labels" if isinstance(condition, int) else "prompt"
    if given not in known:
        other = "--classes" if "class_labels" in known else "--prompt"
        raise ValueError(f"{name} takes no {given}; give {other}")
    classes = getattr(getattr(pipe, "transformer", None), "config", {}).get("num_embeds_ada_norm")
    if isinstance(condition, int) and classes is not None and condition >= classes:
        raise ValueError(f"{name} has class ids from 0 to {classes - 1}, got {condition}")
    if unknown := set(call) - set(known):
        raise ValueError(f"{name} takes no argument {', '.join(sorted(unknown))}")
    needed = {key for key, value in known.items() if value.default is value.empty and value.kind.name[:3] != "VAR"}
    if missing := needed - set(call) - {given}:
        raise ValueError(f"{name} also needs {', '.join(sorted(missing))}, which this command cannot give")
