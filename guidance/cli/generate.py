"""Draw images with any diffusers pipeline and any guidance, one file per seed.

    diffusion-guidance generate assets/shapes --seeds 0-15 --steps 10 --out out/raag \\
        --guidance raag:w_max=10,alpha=8 --call max_sequence_length=1 \\
        --prompt "a red circle at the top left and a blue star at the bottom right on a dark background"

Guidance is applied in order: the first is nearest to the network. Without --guidance the pipeline's own is used.
Callbacks:

{methods}
    Each also takes start and stop, fractions of the steps.
    Any guider of diffusers by name:     --guidance AdaptiveProjectedGuidance:guidance_scale=5
    A subclass of Callback of your own:  --guidance package.module:Class:argument=value

With --compare, once for each method, every prompt and seed is drawn with every one of them, and the folder gets one
sheet, compare.png, and one page that holds its images, compare.html; `none` is the pipeline's own guidance.

Each file says how it was drawn (prompt, seed, guidance, call, a digest of the checkpoint, versions) unless --no-record
is given. `verify` draws it again and compares; --from IMAGE takes all settings from it, with the pipeline named here.

A run that was killed resumes where it stopped when the same command is given again.
"""

import textwrap
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from .check_call import check_call
from .failures import blaming
from .methods import described
from .options import Asked, Call, Guided, Model, add_batch_size, add_seeds
from .parser import Parser, path


if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffusers import DiffusionPipeline
    from PIL.PngImagePlugin import PngInfo

    from ..core.callback import Callback
    from ..evaluation.sampling import Job


def parser(prog: str) -> Parser:
    methods = textwrap.fill(described(), 116, initial_indent="    ", subsequent_indent="    ")
    parse = Parser(prog=prog, description=(__doc__ or "").replace("{methods}", methods))
    Model.add(parse)
    text = "draw an image of ours again, with all that it says about itself"
    Asked.add(parse).add_argument("--from", type=path, dest="source", metavar="IMAGE", help=text)
    Guided.add(parse)
    text = "a row of a sheet: callbacks as for --guidance, separated by blanks; a .json file; none"
    parse.add_argument("--compare", action="append", default=[], metavar="METHOD", help=text)
    Call.add(parse)
    add_seeds(parse, default="0")
    parse.add_argument("--pair", action="store_true", help="one image per seed: seed s takes prompt s, in rotation")
    parse.add_argument("--out", type=path, default=Path("out/generate"), help="folder (default out/generate)")
    parse.add_argument("--no-record", action="store_true", help="files do not say how they were drawn")
    add_batch_size(parse, 8)
    return parse


def run(args: Namespace) -> None:
    from ..core.configuration import to_config
    from ..core.locking import locked_folder
    from ..evaluation.record import drawing
    from ..evaluation.sampling import plan
    from .comparison import compare, methods

    if args.source:
        draw_again(args)
        return
    if args.compare and (args.guidance or args.guidance_file):
        raise ValueError("--compare has the guidance of each row; leave --guidance and --guidance-file out")
    rows = methods(args.compare)
    model, given = Model.of(args), Call.of(args)
    call = given.arguments()
    asked, guidance = Asked.of(args).conditions, Guided.of(args).callbacks()
    facts = {"pipeline": model.name, "conditions": asked, "pair": "by seed" if args.pair else False}
    config = to_config(guidance)  # before the pipeline is loaded: a callback that cannot be written down fails early
    jobs = plan(asked, args.seeds, args.out, args.pair)
    pipe = model.load()
    check_call(pipe, asked, call)
    settings = facts | drawing(pipe, config, call, model.dtype)
    with blaming(given.more), locked_folder(args.out):
        if rows:
            compare(args.out, pipe, jobs, rows, settings, args.batch_size, call)
            return
        draw(args.out, pipe, jobs, guidance, settings, args.batch_size, call, not args.no_record)


def draw_again(args: Namespace) -> None:
    """Draw from the record of the image `args.source`. Raises ValueError if a setting is given that the record has."""
    from ..core.configuration import to_config
    from ..core.locking import locked_folder
    from ..evaluation.record import drawing, read_record
    from ..evaluation.sampling import plan
    from .verify import load

    free = parser("").parse_args([args.pipeline, "--from", str(args.source)])
    for name in ("guidance", "guidance_file", "compare", "steps", "weight", "call", "seeds", "pair", "dtype"):
        if getattr(args, name) != getattr(free, name):
            raise ValueError(f"--from has all settings of the image; leave --{name.replace('_', '-')} out")
    record = read_record(args.source)
    guidance = record.callbacks(args.trust_guidance, args.source)
    pipe = load(Model.of(args), record, args.source)
    settings: dict[str, object] = {"pipeline": args.pipeline, "conditions": [record.condition], "pair": False}
    settings |= drawing(pipe, to_config(guidance), record.call, record.dtype)
    jobs = plan([record.condition], [record.seed], args.out)
    with blaming(record.call), locked_folder(args.out):
        draw(args.out, pipe, jobs, guidance, settings, 1, record.call, not args.no_record)


def draw(
    out: Path,
    pipe: "DiffusionPipeline",
    jobs: "list[Job]",
    guidance: "list[Callback]",
    settings: dict[str, object],
    batch_size: int,
    call: dict[str, object],
    recorded: bool = True,
) -> None:
    """Draw what is missing in the folder `out`, which must be of the same settings. Files say so if `recorded`."""
    from ..evaluation.record import Record
    from ..evaluation.sampling import generate
    from ..evaluation.settings import keep_settings
    from ..methods.trace import Trace
    from .traces import TraceStore, trace_folder

    keep_settings(out, settings)
    traces = [callback for callback in guidance if isinstance(callback, Trace)]
    stores = [TraceStore(out, trace, number) for number, trace in enumerate(traces, 1)]
    if stores:
        keep_settings(trace_folder(out), settings)

    def keep(batch: "Sequence[Job]") -> None:
        for store in stores:
            store.keep(batch)

    record = Record.of(settings) if recorded else None

    def info(job: "Job") -> "PngInfo | None":
        return replace(record, condition=job.condition, seed=job.seed).info() if record else None

    drawn = sum(1 for _ in generate(pipe, jobs, guidance, batch_size, keep, info, **call))
    print(f"{drawn} images drawn, {len(jobs) - drawn} were there already: {out}")
    for paths in filter(None, (store.publish() for store in stores)):
        print(f"trace: {', '.join(map(str, paths))}")
