"""Calibrated classifier guidance (EluCD) on the digits checkpoint: docs/results/elucd.json and its plot.

    elucd           every method at its best scale, all from the same seeds, then timed against the unguided pipeline,
                    interleaved, on a quiet machine
    elucd-tuning    what was tried to find it: every method at several scales or weights, and EluCD's window of steps
                    among a few, on seeds of its own; the smallest Frechet distance wins (DDPM with 250 steps takes
                    what was best with 50)

All of it takes an hour and a half on two cores:

    python -m scripts.studies.elucd
    python -m scripts.studies.elucd --samples 500 --only sampler=ddim --out out/quick.json     # a quick look
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path

from diffusers import DDIMScheduler
from tqdm import tqdm

from diffusion_guidance import ClassifierGuidance
from diffusion_guidance.core.files import write_json
from diffusion_guidance.core.groups import grouped
from diffusion_guidance.evaluation import Subject
from diffusion_guidance.evaluation.sampling import sample
from diffusion_guidance.evaluation.study import Setting, row_name, study
from diffusion_guidance.evaluation.subjects import load_subject
from diffusion_guidance.pipelines import ClassConditionalPipeline
from diffusion_guidance.worlds import DigitsClassifier
from diffusion_guidance.worlds.digits_measure import label
from scripts.benchmarks.timing import interleaved, medians, ratio
from scripts.studies.elucd_report import plot, summary_table
from scripts.studies.study import Report, Run, Study, Table, of_rows, span


SAMPLERS = (("ddpm", 50), ("ddpm", 250), ("ddim", 25))  # with how many steps
#: Where a sampler takes its scales and weights from; its own candidates would cost hours. The published schedule is in
#: units of the variance of a step, so that a scale means the same for any number of steps, except for its bump (gamma).
TUNED_AS = {("ddpm", 250): ("ddpm", 50)}
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
TUNING_SAMPLES = 500  # images a candidate
SAMPLES = 5000
BATCH, CHUNK = 125, 250  # images at once (a CPU's caches hold that many), and in one file
MEASURES = ("frechet", "neighbours")
IMAGES, PAIRS = 32, 9  # of a timed call, and interleaved pairs of timed calls


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


@dataclass(frozen=True)
class Digits:
    """The pipeline with each sampler, the classifier that guides, the judge, and where finished rows are."""

    pipes: Mapping[str, ClassConditionalPipeline]
    classifier: DigitsClassifier
    subject: Subject
    work: Path

    @classmethod
    def load(cls, run: Run) -> "Digits":
        ddpm = ClassConditionalPipeline.from_pretrained(run.assets / "digits")
        ddim = ClassConditionalPipeline(ddpm.transformer, DDIMScheduler.from_config(ddpm.scheduler.config))
        pipes = {"ddpm": ddpm, "ddim": ddim}
        for pipe in pipes.values():
            pipe.set_progress_bar_config(disable=True)
        classifier = DigitsClassifier.from_pretrained(run.assets / "digits-classifier").eval()
        return cls(pipes, classifier, load_subject("digits", run.assets), run.work)

    def setting(self, row: dict) -> Setting:
        call = {"num_inference_steps": row["steps"], "guidance_scale": row.get("weight", 1.0)}
        return Setting(self.pipes[row["sampler"]], guidance(row, self.classifier), call, self.subject)

    def measure(self, rows: Sequence[dict], seeds: range, phase: str, measures: Sequence[str]) -> list[dict]:
        folder = self.work / f"{phase}-{len(seeds)}"
        return study(rows, self.setting, folder, seeds, measures=measures, batch_size=BATCH, chunk=CHUNK)

    def search(self, rows: list[dict]) -> list[dict]:
        """`rows`, and further ones by factors of two while the best scale is the smallest or the largest, measured."""
        seeds = range(TUNING_SEED, TUNING_SEED + TUNING_SAMPLES)
        found = self.measure(rows, seeds, "tune", ("frechet",))
        while "scale" in rows[0]:
            place = found.index(min(found, key=itemgetter("frechet")))
            scale = found[place]["scale"]
            if 0 < place < len(found) - 1 or not 1 / LARGEST < scale < LARGEST:
                break
            new = self.measure([rows[0] | {"scale": scale * 2 if place else scale / 2}], seeds, "tune", ("frechet",))
            found = found + new if place else new + found
        return found

    def tune(self, sampler: tuple[str, int]) -> tuple[list[dict], dict[str, dict]]:
        """(all candidates with what was found, the best of each method) for one of `SAMPLERS`."""
        name, steps = sampler
        if sampler in TUNED_AS:
            _, best = self.tune(TUNED_AS[sampler])
            return [], {method: row | {"steps": steps} for method, row in best.items()}
        tried, best = [], {}
        for method in METHODS:
            kinds = [
                [row | {"sampler": name, "steps": steps} for row in rows]
                for rows in candidates(method, name, best.__getitem__)
            ]
            if method == "unguided":
                best[method] = kinds[0][0]
            elif kinds:
                found = [row for rows in kinds for row in self.search(rows)]
                chosen = min(found, key=itemgetter("frechet"))
                best[method] = {key: chosen[key] for key in kinds[0][0]}
                tried += found
        return tried, best

    def time(self, row: dict) -> dict:
        """`time_ratio` to the unguided pipeline of the same sampler: the median over interleaved pairs."""
        path = self.work / f"time-{IMAGES}-{PAIRS}" / f"{row_name(row)}.json"
        if not path.exists():
            labels = [label(seed) for seed in range(IMAGES)]

            def draw(row: dict) -> None:
                one = self.setting(row)
                sample(one.pipe, labels, range(IMAGES), one.guidance, output_type="pt", **one.call)

            plain = {"sampler": row["sampler"], "steps": row["steps"]}
            ways = {"unguided": partial(draw, plain), "guided": partial(draw, row)}
            times = interleaved(ways, PAIRS)
            write_json(path, ratio("time_ratio", times["guided"], times["unguided"]) | medians(times))
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: found[name] for name in ("time_ratio", "time_ratio_quartiles")}


def wanted(run: Run) -> list[tuple[str, int]]:
    """The samplers to measure."""
    given = run.wanted([{"sampler": name, "steps": steps} for name, steps in SAMPLERS])
    return [(row["sampler"], row["steps"]) for row in given]


def measure(run: Run) -> tuple[dict, list[dict]]:
    digits, count, rows, times = Digits.load(run), run.samples or SAMPLES, [], []
    for sampler in wanted(run):
        _, best = digits.tune(sampler)
        chosen = run.wanted(list(best.values()))
        rows += digits.measure(chosen, range(count), "measure", MEASURES)
        times += chosen
    timed = [row | digits.time(given) for row, given in zip(rows, tqdm(times, desc="time", unit="row"), strict=True)]
    return {"samples": count, "seeds": span(count), "pictures": IMAGES, "pairs": PAIRS}, timed


def tuning(run: Run) -> tuple[dict, list[dict]]:
    digits = Digits.load(run)
    rows = [row for sampler in wanted(run) for row in digits.tune(sampler)[0]]
    return {"samples": TUNING_SAMPLES, "seeds": span(TUNING_SAMPLES, TUNING_SEED)}, rows


STUDY = Study(
    __doc__,
    (
        Report("elucd", measure, (Table("docs/elucd.md", "elucd", "elucd", of_rows(summary_table)),), {"": plot}),
        Report("elucd-tuning", tuning),
    ),
    samples=str(SAMPLES),
)

if __name__ == "__main__":
    STUDY.main()
