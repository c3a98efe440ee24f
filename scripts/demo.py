"""Draw pictures with the shipped shapes checkpoint: plain CFG beside RAAG at 5, 10 and 30 steps, with their figures.

Writes a grid of pictures, the course of RAAG's ratio, and a report to --out. A few minutes on two cores:

    python scripts/demo.py
    python scripts/demo.py --samples 1000 --w-max 18 --alpha 12 --weight 7
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from guidance import CFG, RAAG, Trace
from guidance.evaluation import describe_run, markdown_table, measure_setting, pipeline_draw, write_report
from guidance.evaluation.study import row_name
from guidance.files import write_atomic
from guidance.generation import load_pipeline
from guidance.worlds.subjects import load_subject


ASSETS = Path(__file__).resolve().parent.parent / "assets"
STEPS = (5, 10, 30)
CALL = {"guidance_scale": 2.0}  # the pipeline's own weight only switches the unconditional pass on
SCALE = 3  # screen pixels for each pixel of a picture


def rows(args: argparse.Namespace) -> list[tuple[dict, list]]:
    """Each row of the grid as its description and its guidance."""
    described = []
    for steps in STEPS:
        described.append(({"method": "cfg", "weight": args.weight, "steps": steps}, [CFG(args.weight)]))
        raag = {"method": "raag", "w_max": args.w_max, "alpha": args.alpha, "steps": steps}
        described.append((raag, [RAAG(args.w_max, args.alpha)]))
    return described


def title(row: dict) -> str:
    if row["method"] == "cfg":
        return f"CFG {row['weight']:g}, {row['steps']} steps"
    return f"RAAG {row['w_max']:g}, {row['alpha']:g}, {row['steps']} steps"


def grid(path: Path, drawn: list[tuple[dict, np.ndarray]], columns: int) -> Path:
    """Columns are prompts, rows are methods with uint8 pictures (B, 3, 32, 32), titled with their two figures."""
    side, margin, head = 32 * SCALE, 6, 16
    canvas = Image.new("RGB", (columns * (side + margin) + margin, len(drawn) * (side + margin + head)), "white")
    pen = ImageDraw.Draw(canvas)
    for number, (row, images) in enumerate(drawn):
        top = number * (side + margin + head)
        figures = f"alignment {row['alignment']:.1%}, Frechet distance {row['frechet']:.3f}"
        pen.text((margin, top + 2), f"{title(row)}:  {figures}", fill="black")
        for column, image in enumerate(images[:columns]):
            picture = Image.fromarray(image.transpose(1, 2, 0)).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(picture, (margin + column * (side + margin), top + head))
    return write_atomic(path, canvas.save)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/demo"))
    parser.add_argument("--samples", type=int, default=200, help="pictures a row, for the figures (default 200)")
    parser.add_argument("--columns", type=int, default=8, help="prompts that the grid shows (default 8)")
    parser.add_argument("--weight", type=float, default=5.0, help="of CFG (default 5)")
    parser.add_argument(
        "--w-max", type=float, default=5.0, help="of RAAG, what its weight is where the ratio is 0 (default 5)"
    )
    parser.add_argument(
        "--alpha", type=float, default=2.0, help="of RAAG, how fast its weight falls with the ratio (default 2)"
    )
    args = parser.parse_args()
    if args.samples < max(2, args.columns):
        parser.error("--samples must be at least 2, and at least --columns")

    pipe = load_pipeline(str(ASSETS / "shapes"))
    subject = load_subject("shapes", ASSETS, pipe.device)
    seeds = range(args.samples)
    drawn, report = [], []
    for row, guidance in rows(args):
        print(f"drawing {args.samples} pictures: {title(row)}", flush=True)
        store, found = measure_setting(
            args.out / "runs" / row_name(row | {"samples": args.samples}),
            pipe,
            subject,
            seeds,
            guidance,
            CALL | {"num_inference_steps": row["steps"]},
            {"row": row},
            batch_size=50,
            keep=args.samples,
        )
        report.append(row | found)
        drawn.append((report[-1], store.array("images")))

    trace = Trace()
    guided = [RAAG(args.w_max, args.alpha), trace]
    pipeline_draw(pipe, subject.condition, guided, **subject.call, **CALL, num_inference_steps=30)(range(32))
    prompts = [subject.condition(seed) for seed in range(args.columns)]
    picture = grid(args.out / "grid.png", drawn, args.columns)
    ratio = trace.plot(args.out / "ratio.png")
    meta = describe_run(samples=args.samples, seeds=f"0-{args.samples - 1}", prompts=prompts)
    figures = write_report(args.out / "report.json", meta, report)

    print("\n" + markdown_table(report, ["method", "weight", "w_max", "alpha", "steps", "alignment", "frechet"]))
    print(f"{picture}: one column a prompt, one row a method and number of steps. The prompts are")
    print("\n".join(f"  {number}. {prompt}" for number, prompt in enumerate(prompts, 1)))
    print(f"{ratio}: the ratio that RAAG reads, and the weight that it sets, over 30 steps; the ratio spikes first")
    print(f"{figures}: alignment (share of pictures with every attribute as asked) and Frechet distance of each row")


if __name__ == "__main__":
    main()
