"""Calibrated classifier guidance (EluCD) on the digits checkpoint: docs/results/elucd.json and its plot.

Three phases, each kept in --work, so that a killed one goes on where it stopped:

    tune     every method at several scales or weights, and EluCD's window of steps among a few, on seeds of its own;
             the smallest Frechet distance wins (DDPM with 250 steps takes what was best with 50)
    measure  every method at its best scale, all from the same seeds
    time     every method against the unguided pipeline, interleaved; on a quiet machine

    python -m scripts.studies.elucd                                  # all of it; an hour and a half on two cores
    python -m scripts.studies.elucd --phases tune measure            # later: --phases time
    python -m scripts.studies.elucd --samples 500 --tune-samples 100 --samplers ddim-25 --out out/quick.json
"""

import argparse
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from operator import itemgetter
from pathlib import Path

from diffusers import DDIMScheduler
from tqdm import tqdm

from diffusion_guidance import ClassifierGuidance, attach
from diffusion_guidance.core.files import write_json
from diffusion_guidance.core.groups import grouped
from diffusion_guidance.evaluation.report import describe_run, write_report
from diffusion_guidance.evaluation.sampling import generators
from diffusion_guidance.evaluation.study import row_name, study
from diffusion_guidance.pipelines import ClassConditionalPipeline
from diffusion_guidance.worlds import DigitsClassifier
from diffusion_guidance.worlds.digits_measure import label
from diffusion_guidance.worlds.subjects import load_subject
from scripts.benchmarks.timing import interleaved, medians, ratio
from scripts.studies.elucd_report import plot, summary_table


SAMPLERS = {"ddpm-50": ("ddpm", 50), "ddpm-250": ("ddpm", 250), "ddim-25": ("ddim", 25)}
#: Where a sampler takes its scales and weights from; its own candidates would cost hours. The published schedule is in
#: units of the variance of a step, so that a scale means the same for any number of steps, but for its bump (gamma).
TUNED_AS = {"ddpm-250": "ddpm-50"}
#: The published schedule for the sampler that it was made for; ours in x0 for the other.
SCHEDULE = {"ddpm": "ddpm", "ddim": "x0"}
#: Of one length, so that they cost the same; each sampler has its own best.
WINDOWS = tuple(
    {"start": start, "stop": stop} for start, stop in ((0.48, 0.6), (0.6, 0.72), (0.72, 0.84), (0.84, 0.96))
)
_NAIVE = {"softplus": 0.0, "gamma": 0.0, "tau_joint": 1.0, "tau_marginal": 1.0, "look_at": "sample"}
#: Each adds one ingredient to the one before. `elucd` is all of them in a window of steps only, which makes it cheap.
INGREDIENTS = {
    "naive": _NAIVE,
    "+ x0 estimate": _NAIVE | {"look_at": "estimate"},
    "+ softplus": _NAIVE | {"look_at": "estimate", "softplus": 3.0},
    "+ temperatures": _NAIVE | {"look_at": "estimate", "softplus": 3.0, "tau_marginal": 0.5},
    "+ schedule": {},
}
METHODS = ("unguided", *INGREDIENTS, "elucd", "elucd (x0)", "cfg", "cfg+elucd")
SCALES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)  # to begin with, see `Study.search`
LARGEST = 2.0**20
WEIGHTS = (1.25, 1.5, 2.0, 3.0, 4.0)
TUNING_SEED = 1_000_000  # the first of the seeds that tune
BATCH, CHUNK = 125, 250  # pictures at once (a CPU's caches hold that many), and in one file
MEASURES = ("frechet", "neighbours")


def candidates(method: str, sampler: str, best: Callable[[str], dict]) -> list[list[dict]]:
    """The rows to choose from for a method, without the sampler: lists, each of one kind at all scales or weights.

    The best weight of CFG, and the best window of EluCD, are needed for those of both together; `best(method)` is the
    row that was chosen.
    """
    schedule = "x0" if method == "elucd (x0)" else SCHEDULE[sampler]
    scaled = [{"method": method, "schedule": schedule, "scale": scale} for scale in SCALES]
    if method == "unguided":
        return [[{"method": method}]]
    if method == "elucd (x0)" and SCHEDULE[sampler] == "x0":
        return []  # it is the same
    if method == "cfg":
        return [[{"method": method, "weight": weight} for weight in WEIGHTS]]
    if method == "elucd":
        return [[row | window for row in scaled] for window in WINDOWS]
    if method in INGREDIENTS:
        return [scaled]
    also = {name: best("elucd")[name] for name in ("start", "stop")}
    also |= {"weight": best("cfg")["weight"]} if method == "cfg+elucd" else {}
    return [[row | also for row in scaled]]


def guidance(row: dict, classifier: DigitsClassifier) -> list:
    """The callbacks of a row; CFG is the pipeline's own."""
    if "scale" not in row:
        return []
    given = {name: row[name] for name in ("schedule", "scale", "start", "stop") if name in row}
    given |= INGREDIENTS.get(row["method"], {})
    return [ClassifierGuidance(classifier, **grouped(ClassifierGuidance, given))]


class Study:
    """The pipeline with its samplers, the classifier that guides, and the judge."""

    def __init__(self, assets: Path, work: Path):
        self.work = work
        self.pipe = ClassConditionalPipeline.from_pretrained(assets / "digits")
        self.pipe.set_progress_bar_config(disable=True)
        ddpm = self.pipe.scheduler
        self.schedulers = {"ddpm": ddpm, "ddim": DDIMScheduler.from_config(ddpm.config)}
        self.classifier = DigitsClassifier.from_pretrained(assets / "digits-classifier").eval()
        self.subject = load_subject("digits", assets)

    def setting(self, row: dict):
        self.pipe.scheduler = self.schedulers[row["sampler"]]
        call = {"num_inference_steps": row["steps"], "guidance_scale": row.get("weight", 1.0)}
        return self.pipe, guidance(row, self.classifier), call

    def run(self, rows: Sequence[dict], seeds: range, phase: str, measures: Sequence[str]) -> list[dict]:
        folder = self.work / f"{phase}-{len(seeds)}"
        return study(rows, self.setting, folder, self.subject, seeds, measures=measures, batch_size=BATCH, chunk=CHUNK)

    def search(self, rows: list[dict], samples: int) -> list[dict]:
        """`rows`, and further ones by factors of two while the best scale is the smallest or the largest, measured."""
        seeds = range(TUNING_SEED, TUNING_SEED + samples)
        found = self.run(rows, seeds, "tune", ("frechet",))
        while "scale" in rows[0]:
            place = found.index(min(found, key=itemgetter("frechet")))
            scale = found[place]["scale"]
            if 0 < place < len(found) - 1 or not 1 / LARGEST < scale < LARGEST:
                break
            new = self.run([rows[0] | {"scale": scale * 2 if place else scale / 2}], seeds, "tune", ("frechet",))
            found = found + new if place else new + found
        return found

    def tune(self, sampler: str, samples: int) -> tuple[list[dict], dict[str, dict]]:
        """(all candidates with what was found, the best of each method) for one of `SAMPLERS`."""
        if sampler in TUNED_AS:
            _, best = self.tune(TUNED_AS[sampler], samples)
            return [], {method: row | {"steps": SAMPLERS[sampler][1]} for method, row in best.items()}
        name, steps = SAMPLERS[sampler]
        tried, best = [], {}
        for method in METHODS:
            kinds = [
                [row | {"sampler": name, "steps": steps} for row in rows]
                for rows in candidates(method, name, best.__getitem__)
            ]
            if method == "unguided":
                best[method] = kinds[0][0]
            elif kinds:
                found = [row for rows in kinds for row in self.search(rows, samples)]
                chosen = min(found, key=itemgetter("frechet"))
                best[method] = {key: chosen[key] for key in kinds[0][0]}
                tried += found
        return tried, best

    def time(self, row: dict, pictures: int, pairs: int) -> dict:
        """`time_ratio` to the unguided pipeline of the same sampler: the median over interleaved pairs."""
        path = self.work / f"time-{pictures}-{pairs}" / f"{row_name(row)}.json"
        if not path.exists():
            labels = [label(seed) for seed in range(pictures)]

            def draw(row: dict) -> None:
                pipe, callbacks, call = self.setting(row)
                with attach(pipe, callbacks) if callbacks else nullcontext():
                    pipe(labels, generator=generators(range(pictures)), output_type="pt", **call)

            plain = {"sampler": row["sampler"], "steps": row["steps"]}
            ways = {"unguided": partial(draw, plain), "guided": partial(draw, row)}
            times = interleaved(ways, pairs)
            write_json(path, ratio("time_ratio", times["guided"], times["unguided"]) | medians(times))
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: found[name] for name in ("time_ratio", "time_ratio_quartiles")}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--samples", type=int, default=5000, help="pictures a row (default 5000)")
    parser.add_argument("--tune-samples", type=int, default=500, help="pictures a candidate (default 500)")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--phases", nargs="+", choices=("tune", "measure", "time"), default=["tune", "measure", "time"])
    parser.add_argument(
        "--leave-out", nargs="+", default=[], metavar="SAMPLER:METHOD", help="rows that are not measured, to save time"
    )
    parser.add_argument("--pictures", type=int, default=32, help="pictures of a timed call (default 32)")
    parser.add_argument("--pairs", type=int, default=9, help="interleaved pairs of timed calls (default 9)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/elucd.json"))
    parser.add_argument("--work", type=Path, default=Path("out/study-elucd"), help="finished rows")
    args = parser.parse_args(arguments)

    world, rows, tried = Study(args.assets, args.work), [], []
    for sampler in args.samplers:  # what is not done yet and is needed by a later phase is done first
        found, best = world.tune(sampler, args.tune_samples)
        tried += found
        if args.phases == ["tune"]:
            continue
        best = {method: row for method, row in best.items() if f"{sampler}:{method}" not in args.leave_out}
        measured = world.run(list(best.values()), range(args.samples), "measure", MEASURES)
        if "time" in args.phases:
            timing = tqdm(measured, desc=f"time {sampler}", unit="row")
            times = [world.time(row, args.pictures, args.pairs) for row, _ in zip(best.values(), timing, strict=True)]
            measured = [row | ratio for row, ratio in zip(measured, times, strict=True)]
        rows += measured
    tuning = describe_run(samples=args.tune_samples, seeds=f"{TUNING_SEED}-{TUNING_SEED + args.tune_samples - 1}")
    print(write_report(args.out.with_name(f"{args.out.stem}-tuning.json"), tuning, tried))
    if rows:
        meta = describe_run(
            samples=args.samples, seeds=f"0-{args.samples - 1}", pictures=args.pictures, pairs=args.pairs
        )
        write_report(args.out, meta, rows)
        print(plot(args.out.with_suffix(".png"), rows))
        print(args.out, summary_table(rows), sep="\n\n")


if __name__ == "__main__":
    main()
