"""DiffIER against plain guidance and RAAG at equal evaluations and at equal steps, in both worlds.

    diffier         every method at all weights, from the same seeds, and its plots
    diffier-best    each method at its best weight in `diffier` again, on seeds of its own

On two cores `diffier` takes about 45 minutes (the digits 12 of them) and `diffier-best` 10:

    python -m scripts.studies.diffier
    python -m scripts.studies.diffier --samples 100 --only budget=10 --out out/quick.json     # a quick look
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

import scripts.studies.diffier_report as report
from diffusion_guidance import CFG, RAAG, DiffIER, Trace
from diffusion_guidance.evaluation import ChunkStore, Subject, estimates_row, read_report
from diffusion_guidance.evaluation.metrics.frechet import PARTS
from diffusion_guidance.evaluation.metrics.paired import Distances, corrected_estimate, difference_estimate
from diffusion_guidance.evaluation.study import Setting, row_name, study
from scripts.studies.diffier_rows import DEFAULT, EXPENSIVE, FIELDS, RAAG_ALPHA, others, same_without, table
from scripts.studies.diffier_weights import weights_table
from scripts.studies.study import DTYPE, Report, Run, Study, Table, World, load_world, of_rows, span


SAMPLES = {"digits": 1000, "shapes": 300}
BEST_SAMPLES = {"digits": 3000, "shapes": 1000}
BEST_SEED = 2_000_000  # the first seed of `diffier-best`
BATCH = {"digits": 250, "shapes": 150}


def guidance(given: Mapping, trace: Trace) -> list:
    """The callbacks of a row, with an observer."""
    combine = RAAG(given["weight"], RAAG_ALPHA) if given["method"].startswith("raag") else CFG(given["weight"])
    settings = {name: given[name] for name in (*DEFAULT, "stop") if name in given}
    reduce = [DiffIER(**settings)] if "diffier" in given["method"] else []
    return [combine, *reduce, trace]


def setting(world: World, given: Mapping) -> Setting:
    trace = Trace(levels=False, error=True)
    subject = with_error(world.subject, trace, known=not given.get("reuse"))
    # The scale only switches the unconditional pass on.
    call = {"guidance_scale": 2.0, "num_inference_steps": given["steps"]}
    return Setting(world.pipe, guidance(given, trace), call, subject)


def with_error(subject: Subject, trace: Trace, known: bool) -> Subject:
    """`subject` that also stores the accumulated errors of each image, and calls its score `alignment`.

    Args:
        known: False with reused evaluations, where the trace does not know what the network says at the sample.
    """

    def measure(images: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        arrays = subject.measure(images, seeds)
        if "accuracy" in arrays:
            arrays["alignment"] = arrays.pop("accuracy")
        if known:
            arrays |= {name: trace.accumulated_error(name=name) for name in report.ERRORS}
        trace.clear()
        return arrays

    return replace(subject, measure=measure)


Compared = Callable[[Mapping, Sequence[Mapping]], list[tuple[str, Mapping]]]


def measure_world(world: World, rows: Sequence[Mapping], folder: Path, seeds: range, compared: Compared) -> list[dict]:
    """Every row with its values: also `frechet_corrected`, minus its bias, and its differences to other rows.

    Args:
        folder: where finished rows are.
        compared: gives (field, another row) for each difference.
    """
    batch, distances = BATCH[world.name] if world.pipe.device.type == "cpu" else len(seeds), {}
    found = study(rows, partial(setting, world), folder, seeds, batch_size=batch)
    for each in map(row_name, rows):
        store = ChunkStore(folder / each / "samples", len(seeds), batch)
        distances[each] = Distances.of(store.moments(min(PARTS, len(seeds) // 2)), world.subject.reference)
    for given, result in zip(rows, found, strict=True):
        own, others = distances[row_name(given)], compared(given, rows)
        differences = [difference_estimate(own, distances[row_name(other)], field) for field, other in others]
        result |= estimates_row([corrected_estimate(own), *differences])
    return [{"world": world.name, **each} for each in found]


def measure_curves(run: Run) -> tuple[dict, list[dict]]:
    samples, rows = {name: run.samples or SAMPLES[name] for name in run.worlds}, []
    for name, count in samples.items():
        world = load_world(name, run.assets)
        rows += measure_world(world, run.wanted(table()), run.work / f"{name}-{count}", range(count), same_without)
    return facts(samples, first=0), rows


def measure_best(run: Run) -> tuple[dict, list[dict]]:
    samples, rows = {name: run.samples or BEST_SAMPLES[name] for name in run.worlds}, []
    best = [each for each in report.best_rows(read_report(run.out)[1]) if each["budget"] < EXPENSIVE]
    for name, count in samples.items():
        known = [each for each in best if each["world"] == name]
        given = [{field: each[field] for field in FIELDS if field in each} for each in known]
        seeds = range(BEST_SEED, BEST_SEED + count)
        found = measure_world(load_world(name, run.assets), given, run.work / f"{name}-best-{count}", seeds, others)
        rows += [new | {field: old[field] for field in ("low", "high")} for new, old in zip(found, known, strict=True)]
    return facts(samples, first=BEST_SEED), rows


def facts(samples: Mapping[str, int], first: int) -> dict:
    """The facts of a report whose seeds start at `first`."""
    seeds = {world: span(count, first) for world, count in samples.items()}
    return {"samples": dict(samples), "seeds": seeds, "dtype": DTYPE, "raag_alpha": RAAG_ALPHA}


DOCUMENT = "docs/diffier.md"
CURVES = (
    Table(DOCUMENT, "diffier summary", "diffier", of_rows(report.summary_table)),
    Table(DOCUMENT, "diffier equal steps", "diffier", of_rows(report.summary_table, "steps")),
    Table(DOCUMENT, "diffier steps", "diffier", of_rows(report.steps_table)),
    Table(DOCUMENT, "diffier settings", "diffier", of_rows(report.varied_table)),
    Table(DOCUMENT, "diffier weights", "diffier", weights_table),
)
BEST = (Table(DOCUMENT, "diffier best", "diffier-best", of_rows(report.best_table)),)
STUDY = Study(
    __doc__,
    (
        Report("diffier", measure_curves, CURVES, {"-error": report.plot_error, "": report.plot_weights}),
        Report("diffier-best", measure_best, BEST),
    ),
    samples="1000 digits, 300 shapes; for the best 3000 and 1000",
    worlds=("digits", "shapes"),
)

if __name__ == "__main__":
    STUDY.main()
