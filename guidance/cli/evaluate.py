"""Measure guidance: sample many pictures and score them, compare sets of pictures, sweep over settings.

    diffusion-guidance evaluate run assets/shapes --world shapes --seeds 0-9999 --steps 10 --weight 3 --out out/cfg
    diffusion-guidance evaluate run MODEL --prompts prompts.txt --seeds 0-49999 --guidance raag:w_max=18,alpha=12 \\
        --extractor inception:weights.safetensors --reference VIRTUAL_imagenet512.npz --out out/raag
    diffusion-guidance evaluate score out/pictures reference.npz --extractor dinov2:weights.safetensors --out out/score
    diffusion-guidance evaluate sweep assets/shapes --world shapes --seeds 0-1999 --steps 5,10 --weights 1.5,3,6 \\
        --method none --method "raag:w_max={weight},alpha=8" --out out/sweep

A killed run goes on when the same command is given again, and ends with the same bytes. On several GPUs or nodes:
`accelerate launch -m diffusion_guidance evaluate run ...`, with one --out folder that all of them see. A reference is
a picture folder, the --out folder of a finished run, an npz file (edm's, ADM's) or safetensors statistics. See
docs/evaluation.md.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from .. import Callback, load_pipeline, parse_guidance, to_config
from ..evaluation import (
    ChunkStore,
    Extractor,
    Reference,
    Subject,
    estimates_row,
    load_extractor,
    load_reference,
    load_side,
    measure_setting,
    publish_curves,
    summarise,
)
from ..evaluation.columns import setting_columns
from ..evaluation.metrics.frechet import merged
from ..evaluation.publish import publish
from ..evaluation.run import describe_seeds, process_state
from ..evaluation.sampling import parse_seeds
from ..evaluation.study import row_name
from ..evaluation.summary import check_reference, needs_features
from ..worlds.shipped import assets_folder
from ..worlds.subjects import WORLDS, load_subject, load_world_extractor
from .arguments import parse_call, parse_numbers, read_prompts
from .evaluate_arguments import parser


ASSETS = assets_folder()
SHEET = 64  # pictures on the contact sheet
SCENES = 10_000  # of the shapes world, drawn where a measure needs their features


def main() -> None:
    args = parser(__doc__).parse_args()
    try:
        if args.batch_size < 1:
            raise ValueError("--batch-size must be at least 1")
        args.state = process_state()
        args.device = args.device or str(args.state.device)
        check_device(args.device)
        {"run": run, "sweep": sweep, "score": score}[args.command](args)
    except (ValueError, OSError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        sys.exit(2)


def check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch raises either
        raise ValueError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}") from None


def run(args: argparse.Namespace) -> None:
    seeds, guidance = parse_seeds(args.seeds), [parse_guidance(text) for text in args.guidance]
    row = method_row(guidance, args.weight)
    row |= setting_columns([guidance], [row])[0]
    subject, pipe = load(args)
    store, found = run_one(args, args.out, pipe, subject, seeds, guidance, args.steps, args.weight)
    facts = {"seeds": describe_seeds(seeds), **subject.settings}
    finish(args, subject.reference, [row | {"steps": args.steps} | found], facts, store)


def sweep(args: argparse.Namespace) -> None:
    seeds = parse_seeds(args.seeds)
    weights, steps = parse_numbers("--weights", args.weights, float), parse_numbers("--steps", args.steps, int)
    plan = sweep_plan(args.method, weights)
    given = [method_row(guidance, weight) for _, _, guidance, weight in plan]
    columns = setting_columns([guidance for _, _, guidance, _ in plan], given)
    given = [row | more for row, more in zip(given, columns, strict=True)]
    subject, pipe = load(args)
    rows, lines = [], []
    for count in steps:
        for (text, short, guidance, weight), row in zip(plan, given, strict=True):
            folder = args.out / "runs" / row_name({"method": short, "weight": weight, "steps": count})
            own = weight if short == "none" else None
            _, found = run_one(args, folder, pipe, subject, seeds, guidance, count, own)
            rows.append(row | {"steps": count} | found)
            lines.append(f"{'cfg' if text == 'none' else text}, {count} steps")
    finish(args, subject.reference, rows, {"seeds": describe_seeds(seeds), **subject.settings})
    if args.state.is_main_process:
        publish_curves(args.out, rows, lines)


def sweep_plan(methods: Sequence[str], weights: Sequence[float]) -> list[tuple[str, str, list[Callback], float | None]]:
    """(text, text with its weight, callbacks, weight) of every setting of a sweep; exactly the weight is used."""
    plan = []
    for text in dict.fromkeys(methods):
        for weight in dict.fromkeys(weights) if "{weight}" in text or text == "none" else [None]:
            short = text if weight is None else text.replace("{weight}", exact(weight))
            guidance = [] if text == "none" else [parse_guidance(part) for part in short.split()]
            plan.append((text, short, guidance, weight))
    return plan


def exact(number: float) -> str:
    """The shortest text that means just this number."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)


def method_row(guidance: Sequence[Callback], weight: float | None) -> dict:
    method = "+".join(type(callback).__name__.lower() for callback in guidance) or "cfg"
    return {"method": method} | ({} if weight is None else {"weight": weight})


def run_one(
    args, out: Path, pipe, subject: Subject, seeds: Sequence[int], guidance: list[Callback], steps: int, weight
) -> tuple[ChunkStore, dict]:
    """One setting: sample, measure, and what was found for the row of the report."""
    if steps < 1:
        raise ValueError("--steps must be at least 1")
    if weight is not None and not math.isfinite(weight):
        raise ValueError(f"a weight must be a finite number, got {weight}")
    call = {"num_inference_steps": steps} | ({} if weight is None else {"guidance_scale": weight})
    return measure_setting(
        out,
        pipe,
        subject,
        seeds,
        guidance,
        call,
        {"guidance": to_config(guidance)},
        measures=wanted(args, subject.reference),
        batch_size=args.batch_size,
        keep=SHEET,
        state=args.state,
    )


def score(args: argparse.Namespace) -> None:
    extractor = extractor_of(args)
    reference = reference_at(args, args.reference, extractor)
    check_reference(reference, wanted(args, reference))
    store = load_side(args.pictures, extractor, args.out, args.batch_size, args.state)
    row = {"samples": store.samples} | estimates_row(summarise(store, reference, wanted(args, reference)))
    if args.save_statistics and args.state.is_main_process:
        merged(store.moments(1)).save(args.save_statistics)
    finish(args, reference, [row], {"pictures": str(args.pictures), "extractor": extractor and extractor.name})


def finish(args, reference: Reference | None, rows: list[dict], facts: dict, store: ChunkStore | None = None) -> None:
    """Write what was found, once."""
    if args.state.is_main_process:
        images = next(store.rows("images"))[:SHEET] / 255 if store is not None else None
        print(publish(args.out, rows, facts, reference, images))


def load(args: argparse.Namespace) -> tuple[Subject, object]:
    """What is measured, and the pipeline."""
    call = parse_call(args.call)
    subject = world_subject(args) if args.world else asked_subject(args)
    check_reference(subject.reference, wanted(args, subject.reference))
    settings = {"pipeline": args.pipeline, "dtype": args.dtype, **subject.settings}
    pipe = load_pipeline(args.pipeline, args.dtype, args.device)
    return replace(subject, settings=settings, call={**subject.call, **call}), pipe


def world_subject(args: argparse.Namespace) -> Subject:
    if args.extractor:
        raise ValueError("--world brings its own extractor; leave --extractor out")
    if args.world_samples is not None and args.world_samples < 2:
        raise ValueError("--world-samples must be at least 2")
    judge = load_world_extractor(args.world, ASSETS, args.device)
    reference = reference_at(args, args.reference, judge) if args.reference else None
    scenes = args.world_samples or (SCENES if needs_features(args.measure or []) else None)
    return load_subject(args.world, ASSETS, args.device, reference, scenes)


def asked_subject(args: argparse.Namespace) -> Subject:
    asked = parse_seeds(args.classes) if args.classes else read_prompts(args.prompts)
    extractor = extractor_of(args)
    if extractor is None:
        raise ValueError("--extractor is needed to measure pictures: inception, dinov2, clip, shapes or digits")
    reference = reference_at(args, args.reference, extractor) if args.reference else None
    return Subject.of(asked, extractor, reference)


def extractor_of(args: argparse.Namespace) -> Extractor | None:
    if args.extractor in WORLDS:
        return load_world_extractor(args.extractor, ASSETS, args.device)
    return load_extractor(args.extractor, args.device) if args.extractor else None


def reference_at(args: argparse.Namespace, path: Path, extractor: Extractor | None) -> Reference:
    features = needs_features(args.measure or [])
    return load_reference(path, extractor, args.out / "reference", features, args.batch_size, args.state)


def wanted(args: argparse.Namespace, reference: Reference | None) -> list[str]:
    return args.measure or (["frechet"] if reference is not None or args.command == "score" else [])


if __name__ == "__main__":
    main()
