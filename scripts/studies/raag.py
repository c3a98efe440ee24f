"""RAAG against plain classifier-free guidance on the shapes checkpoint: docs/results/raag.json and its plot.

Every row is drawn from the same seeds and captions. About half an hour on two cores:

    python -m scripts.studies.raag
    python -m scripts.studies.raag --samples 100 --only steps=5 --out out/quick.json     # a quick look
"""

import itertools
from pathlib import Path

from diffusion_guidance import CFG, RAAG
from diffusion_guidance.evaluation import markdown_table, pareto_plot
from diffusion_guidance.evaluation.study import Setting, study
from scripts.studies.study import DTYPE, Report, Run, Study, Table, load_world, span


WEIGHTS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
GRID = tuple(itertools.product((5.0, 10.0, 18.0), (2.0, 8.0, 12.0)))  # (w_max, alpha)
STEPS = (5, 10, 30)
SAMPLES = 1000
VISIBLE = 0.8  # alignment from which the plot shows a row


def table() -> list[dict]:
    """What distinguishes the rows: method, its parameters, and the number of steps."""
    cfg = [{"method": "cfg", "weight": weight} for weight in WEIGHTS]
    raag = [{"method": "raag", "w_max": w_max, "alpha": alpha} for w_max, alpha in GRID]
    return [row | {"steps": count} for count in STEPS for row in [*cfg, *raag]]


def guidance(row: dict) -> list:
    return [CFG(row["weight"]) if row["method"] == "cfg" else RAAG(row["w_max"], row["alpha"])]


def measure(run: Run) -> tuple[dict, list[dict]]:
    world, count = load_world("shapes", run.assets), run.samples or SAMPLES

    def setting(row: dict) -> Setting:
        # The scale only switches the unconditional pass on.
        call = {"guidance_scale": 2.0, "num_inference_steps": row["steps"]}
        return Setting(world.pipe, guidance(row), call, world.subject)

    rows = study(run.wanted(table()), setting, run.work / str(count), range(count))
    facts = {"samples": count, "seeds": span(count), "checkpoint": "assets/shapes", "dtype": DTYPE["shapes"]}
    return facts, rows


def every_row(meta: dict, rows: list[dict]) -> str:
    """The whole table, under what it was measured with."""
    facts = f"{meta['samples']} images per row, seeds {meta['seeds']}, {meta['dtype']}.\n\n"
    columns = ["method", "weight", "w_max", "alpha", "steps", "alignment", "frechet"]
    return facts + markdown_table(rows, columns, digits=3)


def plot(path: Path, rows: list[dict]) -> None:
    """One curve per method and step count, from weak to strong guidance; rows far outside would hide the others."""
    points = []
    for steps, method in itertools.product(sorted({row["steps"] for row in rows}), ("cfg", "raag")):
        part = [row for row in rows if row["steps"] == steps and row["method"] == method]
        strength = (lambda row: row["weight"]) if method == "cfg" else (lambda row: (-row["alpha"], row["w_max"]))
        for row in sorted(part, key=strength):
            label = f"{row['weight']:g}" if method == "cfg" else f"{row['w_max']:g}, {row['alpha']:g}"
            if row["alignment"] >= VISIBLE:
                points.append(row | {"curve": f"{method.upper()}, {steps} steps", "label": label})
    pareto_plot(path, points, group="curve", label="label", title="points: CFG weight; RAAG w_max, alpha")


STUDY = Study(
    __doc__,
    (Report("raag", measure, (Table("docs/raag.md", "raag", "raag", every_row),), {"": plot}),),
    samples=str(SAMPLES),
)

if __name__ == "__main__":
    STUDY.main()
