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
    figures_row,
    load_extractor,
    load_reference,
    load_side,
    measure_setting,
    publish_curves,
    summarise,
)
from ..evaluation.metrics.frechet import merged
from ..evaluation.publish import publish
from ..evaluation.run import describe_seeds, process_state
from ..evaluation.sampling import parse_seeds
from ..evaluation.summary import NEEDS_NO_FEATURES, check_reference
from ..worlds.shipped import assets_folder
from ..worlds.subjects import WORLDS, load_subject, load_world_extractor
from .arguments import parse_call, parse_numbers, read_prompts
from .evaluate_arguments import parser


ASSETS = assets_folder()
#: Of callbacks, that rows of a report name.
SETTINGS = ("weight", "w_max", "alpha", "iterations", "step_size", "objective", "scale")
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
    subject, pipe = load(args)
    store, row = run_one(args, args.out, pipe, subject, seeds, guidance, args.steps, args.weight)
    finish(args, subject.reference, [row], {"seeds": describe_seeds(seeds), **subject.settings}, store)


def sweep(args: argparse.Namespace) -> None:
    seeds = parse_seeds(args.seeds)
    weights, steps = parse_numbers("--weights", args.weights, float), parse_numbers("--steps", args.steps, int)
    plan = []
    for text in args.method:
        for weight in weights if "{weight}" in text or text == "none" else [None]:
            short = text.replace("{weight}", f"{weight:g}") if weight is not None else text
            plan.append(([] if text == "none" else [parse_guidance(part) for part in short.split()], short, weight))
    subject, pipe = load(args)
    rows = []
    for count in steps:
        for guidance, short, weight in plan:
            name = "".join(c if c.isalnum() or c in ".=-" else "_" for c in f"{short}_{weight}_{count}")
            own = weight if short == "none" else None
            _, row = run_one(args, args.out / "runs" / name, pipe, subject, seeds, guidance, count, own)
            rows.append(row if weight is None else row | {"weight": weight})
    finish(args, subject.reference, rows, {"seeds": describe_seeds(seeds), **subject.settings})
    if args.state.is_main_process:
        publish_curves(args.out, rows)


def run_one(
    args, out: Path, pipe, subject: Subject, seeds: Sequence[int], guidance: list[Callback], steps: int, weight
) -> tuple[ChunkStore, dict]:
    """One setting: sample, measure, and the row of the report."""
    if steps < 1:
        raise ValueError("--steps must be at least 1")
    if weight is not None and not math.isfinite(weight):
        raise ValueError(f"a weight must be a finite number, got {weight}")
    call = {"num_inference_steps": steps} | ({} if weight is None else {"guidance_scale": weight})
    config = to_config(guidance)
    store, found = measure_setting(
        out,
        pipe,
        subject,
        seeds,
        guidance,
        call,
        {"guidance": config},
        measures=wanted(args, subject.reference),
        batch_size=args.batch_size,
        keep=SHEET,
        state=args.state,
    )
    row = {"method": "+".join(entry["callback"].lower() for entry in config) or "cfg"}
    row |= {} if weight is None else {"weight": weight}
    row |= {name: entry[name] for entry in config for name in SETTINGS if name in entry}
    return store, row | {"steps": steps} | found


def score(args: argparse.Namespace) -> None:
    extractor = extractor_of(args)
    reference = reference_at(args, args.reference, extractor)
    check_reference(reference, wanted(args, reference))
    store = load_side(args.pictures, extractor, args.out, args.batch_size, args.state)
    row = {"samples": store.samples} | figures_row(summarise(store, reference, wanted(args, reference)))
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
    scenes = args.world_samples or (SCENES if needs_features(args) else None)
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
    return load_reference(path, extractor, args.out / "reference", needs_features(args), args.batch_size, args.state)


def needs_features(args: argparse.Namespace) -> bool:
    return bool(set(args.measure or []) - NEEDS_NO_FEATURES)


def wanted(args: argparse.Namespace, reference: Reference | None) -> list[str]:
    return args.measure or (["frechet"] if reference is not None or args.command == "score" else [])


if __name__ == "__main__":
    main()
