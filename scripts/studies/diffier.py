"""DiffIER against plain guidance and RAAG at equal evaluations and at equal steps, in both worlds.

Two phases, each kept in --work, so that a killed study goes on where it stopped:

    curves   every method at all weights, from the same seeds: docs/results/diffier.json and its plots
    best     each method at its best weight in `curves` again, on seeds of its own: docs/results/diffier-best.json

The rows that matter most come first, so fewer --budgets give the report of what is there. On two cores `curves` takes
about 45 minutes (the digits 12 of them) and `best` 10:

    python -m scripts.studies.diffier
    python -m scripts.studies.diffier --worlds digits --samples 100 --budgets 10 --out out/quick.json     # a quick look
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import DDIMScheduler

from diffusion_guidance import CFG, RAAG, DiffIER, Trace
from diffusion_guidance.evaluation import (
    ChunkStore,
    Subject,
    describe_run,
    estimates_row,
    read_report,
    write_report,
)
from diffusion_guidance.evaluation.metrics.frechet import PARTS
from diffusion_guidance.evaluation.metrics.paired import Distances, corrected_estimate, difference_estimate
from diffusion_guidance.evaluation.study import row_name, study
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.subjects import WORLDS, load_subject
from scripts.studies.diffier_report import ERRORS, best_rows, best_table, plot_error, plot_weights, summary_table
from scripts.studies.diffier_rows import BUDGETS, DEAR, DEFAULT, FIELDS, RAAG_ALPHA, others, same_without, table


SAMPLES = {"digits": 1000, "shapes": 300}
BEST_SAMPLES = {"digits": 3000, "shapes": 1000}
BEST_SEED = 2_000_000  # the first seed of the phase `best`
BATCH = {"digits": 250, "shapes": 150}
DTYPE = {"digits": "float32", "shapes": "bfloat16"}


def guidance(given: Mapping, trace: Trace) -> list:
    """The callbacks of a row, with an observer."""
    combine = RAAG(given["weight"], RAAG_ALPHA) if given["method"].startswith("raag") else CFG(given["weight"])
    reduce = [DiffIER(**{name: given[name] for name in DEFAULT})] if "diffier" in given["method"] else []
    return [combine, *reduce, trace]


def load_world(world: str, assets: Path):
    if world == "shapes":
        return load_pipeline(str(assets / world), DTYPE[world])
    pipe = load_pipeline(str(assets / world), DTYPE[world])
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe


def with_error(subject: Subject, trace: Trace, current: Mapping) -> Subject:
    """`subject` that also stores the accumulated errors of each picture, and calls its score `alignment`.

    With reused evaluations (told by the row, `current`) the trace does not know what the network says at the sample, so
    no error is stored.
    """

    def measure(images: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        arrays = subject.measure(images, seeds)
        if "accuracy" in arrays:
            arrays["alignment"] = arrays.pop("accuracy")
        if not current.get("reuse"):
            arrays |= {name: trace.accumulated_error(name=name) for name in ERRORS}
        trace.clear()
        return arrays

    return replace(subject, measure=measure)


def measure_world(world: str, rows: Sequence[Mapping], assets: Path, folder: Path, seeds: range, rivals) -> list[dict]:
    """Every row with its figures: also `frechet_corrected`, less its bias, and the differences to `rivals(row, rows)`.

    Args:
        folder: where finished rows are.
        rivals: gives (field, another row) for each difference.
    """
    pipe, trace = load_world(world, assets), Trace(levels=False, error=True)
    current: dict = {}
    subject = with_error(load_subject(world, assets), trace, current)

    def setting(given: Mapping):
        current.clear()
        current.update(given)
        # The scale only switches the unconditional pass on.
        return pipe, guidance(given, trace), {"guidance_scale": 2.0, "num_inference_steps": given["steps"]}

    found = study(rows, setting, folder, subject, seeds, batch_size=BATCH[world])
    distances = {}
    for name in map(row_name, rows):
        store = ChunkStore(folder / name / "samples", len(seeds), BATCH[world])
        distances[name] = Distances.of(store.moments(min(PARTS, len(seeds) // 2)), subject.reference)
    for given, result in zip(rows, found, strict=True):
        own = distances[row_name(given)]
        figures = [difference_estimate(own, distances[row_name(other)], field) for field, other in rivals(given, rows)]
        result |= estimates_row([corrected_estimate(own), *figures])
    return [{"world": world, **each} for each in found]


def measure_curves(args: argparse.Namespace) -> None:
    samples = {world: args.samples or SAMPLES[world] for world in args.worlds}
    rows = []
    for world, count in samples.items():
        folder = args.work / f"{world}-{count}"
        rows += measure_world(world, table(args.budgets), args.assets, folder, range(count), same_without)
    write_report(args.out, facts(samples, first=0), rows)
    print(plot_error(args.out.with_name(f"{args.out.stem}-error.png"), rows, args.budgets[0]))
    print(plot_weights(args.out.with_suffix(".png"), rows))
    print(args.out, summary_table(rows), summary_table(rows, "steps"), sep="\n\n")


def measure_best(args: argparse.Namespace) -> None:
    samples = {world: args.samples or BEST_SAMPLES[world] for world in args.worlds}
    best = [each for each in best_rows(read_report(args.out)[1]) if each["budget"] < DEAR]
    rows = []
    for world, count in samples.items():
        known = [each for each in best if each["world"] == world]
        given = [{name: each[name] for name in FIELDS if name in each} for each in known]
        folder, seeds = args.work / f"{world}-best-{count}", range(BEST_SEED, BEST_SEED + count)
        found = measure_world(world, given, args.assets, folder, seeds, others)
        rows += [new | {name: old[name] for name in ("low", "high")} for new, old in zip(found, known, strict=True)]
    path = args.out.with_name(f"{args.out.stem}-best.json")
    write_report(path, facts(samples, first=BEST_SEED), rows)
    print(path, best_table(rows), sep="\n\n")


def facts(samples: Mapping[str, int], first: int) -> dict:
    """The meta data of a report, whose seeds start at `first`."""
    seeds = {world: f"{first}-{first + count - 1}" for world, count in samples.items()}
    return describe_run(samples=dict(samples), seeds=seeds, dtype=DTYPE, raag_alpha=RAAG_ALPHA)


PHASES = {"curves": measure_curves, "best": measure_best}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=["digits", "shapes"])
    parser.add_argument(
        "--samples", type=int, help="pictures a row (default 1000 digits, 300 shapes; for best 3 times)"
    )
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS), help="evaluations a picture")
    parser.add_argument("--out", type=Path, default=Path("docs/results/diffier.json"))
    parser.add_argument("--work", type=Path, default=Path("out/study-diffier"), help="finished rows")
    args = parser.parse_args(arguments)
    for phase in args.phases:
        PHASES[phase](args)


if __name__ == "__main__":
    main()
