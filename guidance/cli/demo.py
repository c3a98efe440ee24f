"""Draw with the shipped checkpoints, each row of pictures with its figures.

Shapes from text, plain CFG beside RAAG at 5, 10 and 30 steps; digits by class, unguided, with CFG, and guided by a
classifier (EluCD). Writes two grids of pictures, the course of RAAG's ratio, and a report to --out. A few minutes on
two cores:

    diffusion-guidance demo
    diffusion-guidance demo --samples 1000 --w-max 18 --alpha 12 --weight 7
"""

import argparse
from pathlib import Path

import numpy as np
from diffusers import DDIMScheduler
from PIL import Image, ImageDraw

from .. import CFG, RAAG, ClassifierGuidance, Trace
from ..core.files import write_atomic
from ..evaluation import describe_run, markdown_table, measure_setting, pipeline_draw, write_report
from ..evaluation.study import row_name
from ..pipelines import ClassConditionalPipeline, load_pipeline
from ..worlds import DigitsClassifier
from ..worlds.shipped import assets_folder
from ..worlds.subjects import load_subject


ASSETS = assets_folder()
STEPS = (5, 10, 30)
CALL = {"guidance_scale": 2.0}  # the pipeline's own weight only switches the unconditional pass on
SIDE = 96  # screen pixels of a picture


def rows(args: argparse.Namespace) -> list[tuple[dict, list]]:
    """Each row of the grid as its description and its guidance."""
    described = []
    for steps in STEPS:
        described.append(({"method": "cfg", "weight": args.weight, "steps": steps}, [CFG(args.weight)]))
        raag = {"method": "raag", "w_max": args.w_max, "alpha": args.alpha, "steps": steps}
        described.append((raag, [RAAG(args.w_max, args.alpha)]))
    return described


def digits_rows() -> list[tuple[dict, list]]:
    """The same for the digits; the scale is the best of docs/results/elucd.json."""
    classifier = DigitsClassifier.from_pretrained(ASSETS / "digits-classifier").eval()
    return [
        ({"method": "unguided", "steps": 25}, [CFG(1.0)]),
        ({"method": "cfg", "weight": 1.5, "steps": 25}, [CFG(1.5)]),
        ({"method": "elucd", "scale": 4.0, "steps": 25}, [CFG(1.0), ClassifierGuidance(classifier, scale=4.0)]),
    ]


def title(row: dict) -> str:
    if row["method"] == "unguided":
        return f"unguided, {row['steps']} steps"
    if row["method"] == "elucd":
        return f"EluCD, {row['steps']} steps"
    if row["method"] == "cfg":
        return f"CFG {row['weight']:g}, {row['steps']} steps"
    return f"RAAG {row['w_max']:g}, {row['alpha']:g}, {row['steps']} steps"


def grid(path: Path, drawn: list[tuple[dict, np.ndarray]], columns: int) -> Path:
    """Columns are prompts or classes, rows are methods with uint8 pictures (B, C, H, W), titled with their figures."""
    side, margin, head = SIDE, 6, 16
    canvas = Image.new("RGB", (columns * (side + margin) + margin, len(drawn) * (side + margin + head)), "white")
    pen = ImageDraw.Draw(canvas)
    for number, (row, images) in enumerate(drawn):
        top = number * (side + margin + head)
        score = "alignment" if "alignment" in row else "accuracy"
        figures = f"{score} {row[score]:.1%}, Frechet distance {row['frechet']:.3f}"
        pen.text((margin, top + 2), f"{title(row)}:  {figures}", fill="black")
        for column, image in enumerate(images[:columns]):
            pixels = np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))
            picture = Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(picture, (margin + column * (side + margin), top + head))
    return write_atomic(path, canvas.save)


def draw(args: argparse.Namespace, pipe, subject, described: list[tuple[dict, list]]) -> list[tuple[dict, np.ndarray]]:
    """Each row with its figures, and its pictures; what is there already is not drawn again."""
    drawn = []
    for row, guidance in described:
        print(f"drawing {args.samples} pictures: {title(row)}", flush=True)
        store, found = measure_setting(
            args.out / "runs" / row_name(row | {"samples": args.samples}),
            pipe,
            subject,
            range(args.samples),
            guidance,
            CALL | {"num_inference_steps": row["steps"]},
            {"row": row},
            batch_size=50,
            keep=args.samples,
        )
        drawn.append((row | found, store.array("images")))
    return drawn


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
    drawn = draw(args, pipe, subject, rows(args))
    digits = ClassConditionalPipeline.from_pretrained(ASSETS / "digits")
    digits.scheduler = DDIMScheduler.from_config(digits.scheduler.config)
    digits.set_progress_bar_config(disable=True)
    drawn_digits = draw(args, digits, load_subject("digits", ASSETS), digits_rows())

    trace = Trace()
    guided = [RAAG(args.w_max, args.alpha), trace]
    pipeline_draw(pipe, subject.condition, guided, **subject.call, **CALL, num_inference_steps=30)(range(32))
    prompts = [subject.condition(seed) for seed in range(args.columns)]
    picture = grid(args.out / "grid.png", drawn, args.columns)
    classes = grid(args.out / "digits.png", drawn_digits, args.columns)
    ratio = trace.plot(args.out / "ratio.png")
    report = [row for row, _ in [*drawn, *drawn_digits]]
    meta = describe_run(samples=args.samples, seeds=f"0-{args.samples - 1}", prompts=prompts)
    figures = write_report(args.out / "report.json", meta, report)

    figures_of = ["method", "weight", "w_max", "alpha", "steps", "alignment", "accuracy", "frechet"]
    print("\n" + markdown_table(report, figures_of))
    print(f"{picture}: one column a prompt, one row a method and number of steps. The prompts are")
    print("\n".join(f"  {number}. {prompt}" for number, prompt in enumerate(prompts, 1)))
    print(f"{classes}: one column a class, by a model without text; EluCD is guided by a classifier of clean digits")
    print(f"{ratio}: the ratio that RAAG reads, and the weight that it sets, over 30 steps; the ratio spikes first")
    print(f"{figures}: alignment (every attribute as asked), accuracy, and Frechet distance of each row")


if __name__ == "__main__":
    main()
