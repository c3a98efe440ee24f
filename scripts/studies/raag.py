"""RAAG against plain classifier-free guidance on the shapes checkpoint: docs/results/raag.json and its plot.

Every row is drawn from the same seeds and captions. What is drawn is kept in --work, so a killed study goes on where it
stopped. About half an hour on two cores:

    python -m scripts.studies.raag
    python -m scripts.studies.raag --samples 100 --steps 5 --out out/quick.json     # a quick look
"""

import argparse
import itertools
from dataclasses import replace
from pathlib import Path

from diffusion_guidance import CFG, RAAG
from diffusion_guidance.evaluation import describe_run, markdown_table, pareto_plot, write_report
from diffusion_guidance.evaluation.study import study
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.subjects import load_subject


WEIGHTS = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
GRID = tuple(itertools.product((5.0, 10.0, 18.0), (2.0, 8.0, 12.0)))  # (w_max, alpha)
VISIBLE = 0.8  # alignment from which the plot shows a row


def table(steps: list[int]) -> list[dict]:
    """What distinguishes the rows: method, its parameters, and the number of steps."""
    cfg = [{"method": "cfg", "weight": weight} for weight in WEIGHTS]
    raag = [{"method": "raag", "w_max": w_max, "alpha": alpha} for w_max, alpha in GRID]
    return [row | {"steps": count} for count in steps for row in [*cfg, *raag]]


def guidance(row: dict) -> list:
    return [CFG(row["weight"]) if row["method"] == "cfg" else RAAG(row["w_max"], row["alpha"])]


def call(row: dict) -> dict:
    """Arguments of the pipeline's call; its own weight only switches the unconditional pass on."""
    return {"guidance_scale": 2.0, "num_inference_steps": row["steps"]}


def dominated(rows: list[dict], cheap: int, dear: int) -> tuple[int, int]:
    """How many CFG rows of `dear` steps a RAAG row of `cheap` steps dominates, and of how many."""
    slow = [row for row in rows if row["method"] == "cfg" and row["steps"] == dear]
    fast = [row for row in rows if row["method"] == "raag" and row["steps"] == cheap]
    beaten = [any(f["alignment"] >= s["alignment"] and f["frechet"] <= s["frechet"] for f in fast) for s in slow]
    return sum(beaten), len(slow)


def best_alternative(slow: dict, rows: list[dict]) -> dict | None:
    """The RAAG row of five steps that dominates `slow` with the smallest Frechet distance."""
    fast = [row for row in rows if row["method"] == "raag" and row["steps"] == 5]
    better = [row for row in fast if row["alignment"] >= slow["alignment"] and row["frechet"] <= slow["frechet"]]
    return min(better, key=lambda row: row["frechet"], default=None)


def comparison(rows: list[dict]) -> str:
    """CFG in 30 steps, each row with the RAAG row of 5 steps that beats it in both figures."""
    lines = []
    for slow in (row for row in rows if row["method"] == "cfg" and row["steps"] == 30):
        fast = best_alternative(slow, rows) or {}
        plain = {name: slow[name] for name in ("weight", "alignment", "frechet")}  # without intervals: it is wide
        lines.append(plain | {f"raag_{name}": fast.get(name) for name in ("w_max", "alpha", "alignment", "frechet")})
    headings = {
        "weight": "CFG weight, 30 steps",
        "alignment": "alignment",
        "frechet": "Frechet distance",
        "raag_w_max": "better: RAAG w_max, 5 steps",
        "raag_alpha": "alpha",
        "raag_alignment": "alignment",
        "raag_frechet": "Frechet distance",
    }
    beaten, of = dominated(rows, 5, 30)
    same, of_same = dominated(rows, 5, 5)
    return markdown_table(lines, headings, digits=3) + (
        f"\nRAAG in 5 steps is better in both figures than {beaten} of {of} rows of CFG in 30 steps, and than {same} "
        f"of {of_same} rows of CFG in 5 steps.\n"
    )


def every_row(meta: dict, rows: list[dict]) -> str:
    """The whole table, under what it was measured with."""
    facts = f"{meta['samples']} pictures a row, seeds {meta['seeds']}, {meta['dtype']}.\n\n"
    columns = ["method", "weight", "w_max", "alpha", "steps", "alignment", "frechet"]
    return facts + markdown_table(rows, columns, digits=3)


def plot(path: Path, rows: list[dict]) -> None:
    """One curve a method and step count, from weak to strong guidance; rows far outside would hide the others."""
    points = []
    for steps, method in itertools.product(sorted({row["steps"] for row in rows}), ("cfg", "raag")):
        part = [row for row in rows if row["steps"] == steps and row["method"] == method]
        strength = (lambda row: row["weight"]) if method == "cfg" else (lambda row: (-row["alpha"], row["w_max"]))
        for row in sorted(part, key=strength):
            label = f"{row['weight']:g}" if method == "cfg" else f"{row['w_max']:g}, {row['alpha']:g}"
            if row["alignment"] >= VISIBLE:
                points.append(row | {"curve": f"{method.upper()}, {steps} steps", "label": label})
    pareto_plot(path, points, group="curve", label="label", title="points: CFG weight; RAAG w_max, alpha")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--samples", type=int, default=1000, help="pictures a row (default 1000)")
    parser.add_argument("--steps", type=int, nargs="+", default=[5, 10, 30])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--out", type=Path, default=Path("docs/results/raag.json"))
    parser.add_argument("--work", type=Path, default=Path("out/study-raag"), help="what is drawn")
    args = parser.parse_args()

    pipe = load_pipeline(str(args.assets / "shapes"), args.dtype)
    subject = load_subject("shapes", args.assets, pipe.device)
    subject = replace(subject, settings={"pipeline": "shapes", "dtype": args.dtype, **subject.settings})
    folder = args.work / f"{args.samples}-{args.dtype}"
    rows = study(table(args.steps), lambda row: (pipe, guidance(row), call(row)), folder, subject, range(args.samples))
    meta = describe_run(
        samples=args.samples, seeds=f"0-{args.samples - 1}", checkpoint="assets/shapes", dtype=args.dtype
    )
    write_report(args.out, meta, rows)
    plot(args.out.with_suffix(".png"), rows)
    for dear in args.steps:
        beaten, of = dominated(rows, min(args.steps), dear)
        print(f"RAAG in {min(args.steps)} steps dominates {beaten} of {of} rows of CFG in {dear} steps")
    print(f"{args.out} and {args.out.with_suffix('.png')}")


if __name__ == "__main__":
    main()
