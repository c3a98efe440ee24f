"""What `diffusion-guidance demo` draws and measures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from diffusers import DDIMScheduler, DiffusionPipeline
from PIL import Image, ImageDraw

from ..core.callback import Callback
from ..core.files import write_atomic
from ..evaluation.report import describe_run, markdown_table, write_report
from ..evaluation.run import pipeline_draw
from ..evaluation.study import Subject, measure_setting, row_name
from ..methods.cfg import CFG
from ..methods.classifier.guidance import ClassifierGuidance
from ..methods.classifier.strength import Strength
from ..methods.raag import RAAG
from ..methods.trace import Trace
from ..pipelines.loading import load_pipeline
from ..worlds.digits_classifier import DigitsClassifier
from ..worlds.shipped import assets_folder
from ..worlds.subjects import load_subject


STEPS = (5, 10, 30)
CALL = {"guidance_scale": 2.0}  # the pipeline's own weight only switches the unconditional pass on
SIDE = 96  # screen pixels of an image
COLUMNS = ("method", "weight", "w_max", "alpha", "steps", "alignment", "accuracy", "frechet")

Row = tuple[dict, list[Callback]]  # a row of a grid: its description and its guidance
Drawn = tuple[dict, np.ndarray]  # its description with its metrics, and its images


@dataclass(frozen=True)
class Demo:
    """Settings of the demonstration; see the command's options."""

    out: Path
    samples: int
    columns: int
    weight: float
    w_max: float
    alpha: float

    def run(self) -> None:
        """Draw, measure, and write everything to `out`; what is there already is not drawn again."""
        pipe = load_pipeline("assets/shapes")
        subject = load_subject("shapes", assets_folder(), pipe.device)
        shapes = self._draw(pipe, subject, self._shapes())
        digits = load_pipeline("assets/digits")
        digits.scheduler = DDIMScheduler.from_config(digits.scheduler.config)
        by_class = self._draw(digits, load_subject("digits", assets_folder(), digits.device), digits_rows())
        prompts = [subject.condition(seed) for seed in range(self.columns)]
        images = grid(self.out / "grid.png", shapes, self.columns)
        classes = grid(self.out / "digits.png", by_class, self.columns)
        ratio = self._trace(pipe, subject)
        rows = [row for row, _ in [*shapes, *by_class]]
        meta = describe_run(samples=self.samples, seeds=f"0-{self.samples - 1}", prompts=prompts)
        report = write_report(self.out / "report.json", meta, rows)

        print("\n" + markdown_table(rows, COLUMNS))
        print(f"{images}: one column a prompt, one row a method and number of steps. The prompts are")
        print("\n".join(f"  {number}. {prompt}" for number, prompt in enumerate(prompts, 1)))
        print(
            f"{classes}: one column a class, by a model without text; EluCD is guided by a classifier of clean digits"
        )
        print(f"{ratio}: the ratio that RAAG reads, and the weight that it sets, over 30 steps; the ratio spikes first")
        print(f"{report}: alignment (every attribute as asked), accuracy, and Frechet distance of each row")

    def _shapes(self) -> list[Row]:
        rows: list[Row] = []
        for steps in STEPS:
            rows.append(({"method": "cfg", "weight": self.weight, "steps": steps}, [CFG(self.weight)]))
            settings = {"w_max": self.w_max, "alpha": self.alpha}
            rows.append(({"method": "raag", **settings, "steps": steps}, [RAAG(**settings)]))
        return rows

    def _draw(self, pipe: DiffusionPipeline, subject: Subject, rows: Sequence[Row]) -> list[Drawn]:
        drawn = []
        for row, guidance in rows:
            print(f"drawing {self.samples} images: {title(row)}", flush=True)
            store, found = measure_setting(
                self.out / "runs" / row_name(row | {"samples": self.samples}),
                pipe,
                subject,
                range(self.samples),
                guidance,
                CALL | {"num_inference_steps": row["steps"]},
                {"row": row},
                batch_size=50,
                keep=self.samples,
            )
            drawn.append((row | found, store.array("images")))
        return drawn

    def _trace(self, pipe: DiffusionPipeline, subject: Subject) -> Path:
        """The course of RAAG's ratio and weight over 30 steps."""
        trace = Trace()
        guided = [RAAG(self.w_max, self.alpha), trace]
        pipeline_draw(pipe, subject.condition, guided, **subject.call, **CALL, num_inference_steps=30)(range(32))
        return trace.plot(self.out / "ratio.png")


def digits_rows() -> list[Row]:
    """The rows of the digits; the scale is the best of docs/results/elucd.json."""
    classifier = DigitsClassifier.from_pretrained(assets_folder() / "digits-classifier").eval()
    return [
        ({"method": "unguided", "steps": 25}, [CFG(1.0)]),
        ({"method": "cfg", "weight": 1.5, "steps": 25}, [CFG(1.5)]),
        (
            {"method": "elucd", "scale": 4.0, "steps": 25},
            [CFG(1.0), ClassifierGuidance(classifier, Strength(scale=4.0))],
        ),
    ]


def title(row: dict) -> str:
    if row["method"] == "unguided":
        return f"unguided, {row['steps']} steps"
    if row["method"] == "elucd":
        return f"EluCD, {row['steps']} steps"
    if row["method"] == "cfg":
        return f"CFG {row['weight']:g}, {row['steps']} steps"
    return f"RAAG {row['w_max']:g}, {row['alpha']:g}, {row['steps']} steps"


def grid(path: Path, drawn: Sequence[Drawn], columns: int) -> Path:
    """Columns are prompts or classes, rows are methods with uint8 images (B, C, H, W), titled with their metrics."""
    side, margin, head = SIDE, 6, 16
    canvas = Image.new("RGB", (columns * (side + margin) + margin, len(drawn) * (side + margin + head)), "white")
    pen = ImageDraw.Draw(canvas)
    for number, (row, images) in enumerate(drawn):
        top = number * (side + margin + head)
        score = "alignment" if "alignment" in row else "accuracy"
        text = f"{title(row)}:  {score} {row[score]:.1%}, Frechet distance {row['frechet']:.3f}"
        pen.text((margin, top + 2), text, fill="black")
        for column, image in enumerate(images[:columns]):
            pixels = np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))
            tile = Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(tile, (margin + column * (side + margin), top + head))
    return write_atomic(path, canvas.save)
