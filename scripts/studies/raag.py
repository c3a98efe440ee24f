"""RAAG against plain classifier-free guidance on the shapes checkpoint: docs/results/raag.json and its plot.

Every row is drawn from the same seeds and captions. About half an hour on two cores:

    python -m scripts.studies.raag
    python -m scripts.studies.raag --samples 100 --only steps=5 --out out/quick.json     # a quick look
"""

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from diffusion_guidance import CFG, RAAG
from diffusion_guidance.core.plots import COLORS, LINES, panels, write_plot
from diffusion_guidance.evaluation import markdown_table
from diffusion_guidance.evaluation.study import Setting, study
from scripts.studies.study import DTYPE, Report, Run, Study, Table, load_world, span


if TYPE_CHECKING:
    from matplotlib.axes import Axes

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
    columns = ["method", "weight", "w_max", "alpha", "steps", "effective_weight", "alignment", "frechet"]
    return facts + markdown_table(rows, columns, digits=3)


def plot(path: Path, rows: list[dict]) -> None:
    """Alignment against Frechet distance, one panel per step count: one curve for CFG, one for each alpha of RAAG.

    Rows far outside would hide the others, and are left out.
    """
    counts = sorted({row["steps"] for row in rows})
    figure, places = panels(len(counts), 4.2, 4.2, shared=True)
    alphas = dict.fromkeys(alpha for _, alpha in GRID)
    lines = dict(zip(alphas, zip(LINES, ((-10, -10), (-14, -8), (5, -9)), strict=False), strict=False))
    for axes, steps in zip(places, counts, strict=True):
        part = [row for row in rows if row["steps"] == steps and row["alignment"] >= VISIBLE]
        _curve(axes, [row for row in part if row["method"] == "cfg"], "CFG", "weight", "-", (4, 4))
        for alpha, (line, offset) in lines.items():
            own = [row for row in part if row["method"] == "raag" and row["alpha"] == alpha]
            _curve(axes, own, f"RAAG, alpha {alpha:g}", "w_max", line, offset)
        axes.set(title=f"{steps} steps", xlabel="Frechet distance")
        axes.grid(alpha=0.3)
    places[0].set_ylabel("alignment")
    figure.legend(*places[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    write_plot(path, figure)


def _curve(axes: "Axes", rows: list[dict], name: str, setting: str, line: str, offset: tuple[int, int]) -> None:
    """`rows` in the order of `setting`, whose values stand at the points."""
    rows = sorted(rows, key=lambda row: row[setting])
    color, ends = COLORS[name.lower().partition(",")[0]], [row["alignment_interval"] for row in rows]
    x, y = ([row[key] for row in rows] for key in ("frechet", "alignment"))
    axes.plot(x, y, line, marker="o", markersize=4, color=color, label=name)
    axes.vlines(x, [low for low, _ in ends], [high for _, high in ends], color=color, alpha=0.3)
    for row in rows:
        place = (row["frechet"], row["alignment"])
        axes.annotate(f"{row[setting]:g}", place, xytext=offset, textcoords="offset points", fontsize=7, color=color)


STUDY = Study(
    __doc__,
    (Report("raag", measure, (Table("docs/raag.md", "raag", "raag", every_row),), {"": plot}),),
    samples=str(SAMPLES),
)

if __name__ == "__main__":
    STUDY.main()
