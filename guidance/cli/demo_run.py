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
from ..evaluation.subjects import load_subject
from ..methods.cfg import CFG
from ..methods.classifier.guidance import ClassifierGuidance
from ..methods.classifier.strength import Strength
from ..methods.raag import RAAG
from ..methods.trace import Trace
from ..pipelines.loading import load_pipeline
from ..worlds.digits_classifier import DigitsClassifier
from ..worlds.emoji import PROMPTS
from ..worlds.shipped import assets_folder


STEPS = (5, 10, 30)
CALL = {"guidance_scale": 2.0}  # the pipeline's own weight only switches the unconditional pass on
SIDE = 96  # screen pixels of an image, at least
COLUMNS = ("method", "weight", "w_max", "alpha", "steps", "alignment", "accuracy", "frechet")
SHOWN = PROMPTS[::6]  # of the prompts that were fixed before the training

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
        pipe = load_pipeline("assets/emoji")
        subject = load_subject("emoji", assets_folder(), pipe.device)
        emoji = self._emoji()
        drawn = self._draw(pipe, subject, emoji, ())
        digits = load_pipeline("assets/digits")
        digits.scheduler = DDIMScheduler.from_config(digits.scheduler.config)
        by_class = self._draw(digits, load_subject("digits", assets_folder(), digits.device), digits_rows())
        prompts = SHOWN[: self.columns]
        shown = [(row, show(pipe, prompts, *one)) for (row, _), one in zip(drawn, emoji, strict=True)]
        images = grid(self.out / "grid.png", shown, len(prompts), prompts)
        classes = grid(self.out / "digits.png", by_class, self.columns)
        ratio = self._trace(pipe, subject)
        rows = [row for row, _ in [*drawn, *by_class]]
        meta = describe_run(samples=self.samples, seeds=f"0-{self.samples - 1}", prompts=prompts)
        report = write_report(self.out / "report.json", meta, rows)

        print("\n" + markdown_table(rows, COLUMNS))
        print(f"{images}: one column per prompt, one row per method and number of steps")
        print(
            f"{classes}: one column per class, by a model without text; EluCD is guided by a classifier of clean digits"
        )
        print(f"{ratio}: the ratio that RAAG reads, and the weight that it sets, over 30 steps; the ratio spikes first")
        print(
            f"{report}: alignment (style and name as asked, read by a judge), accuracy, and Frechet distance of a row"
        )

    def _emoji(self) -> list[Row]:
        rows: list[Row] = []
        for steps in STEPS:
            rows.append(({"method": "cfg", "weight": self.weight, "steps": steps}, [CFG(self.weight)]))
            settings = {"w_max": self.w_max, "alpha": self.alpha}
            rows.append(({"method": "raag", **settings, "steps": steps}, [RAAG(**settings)]))
        return rows

    def _draw(
        self, pipe: DiffusionPipeline, subject: Subject, rows: Sequence[Row], measures: Sequence[str] = ("frechet",)
    ) -> list[Drawn]:
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
                measures=measures,
                batch_size=50,
                keep=self.samples,
            )
            drawn.append((row | found, store.array("images")))
        return drawn

    def _trace(self, pipe: DiffusionPipeline, subject: Subject) -> Path:
        """The course of RAAG's ratio and weight over 30 steps."""
        trace = Trace()
        guided = [RAAG(self.w_max, self.alpha), trace]
        pipeline_draw(pipe, subject.condition, guided, **subject.call, **CALL, num_inference_steps=30)(range(16))
        trace.plot(self.out / "ratio.png")
        return self.out / "ratio.png"


def show(pipe: DiffusionPipeline, prompts: Sequence[str], row: dict, guidance: list[Callback]) -> np.ndarray:
    """Images (B, 3, 64, 64) uint8 of B prompts of the emoji world, seeds from 0."""
    call = {"max_sequence_length": 1, **CALL, "num_inference_steps": row["steps"]}
    images, _ = pipeline_draw(pipe, prompts.__getitem__, guidance, **call)(range(len(prompts)))
    return (images.float().clamp(0, 1) * 255).round().byte().cpu().numpy()


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


def grid(path: Path, drawn: Sequence[Drawn], columns: int, prompts: Sequence[str] = ()) -> Path:
    """Columns are `prompts` or classes, rows are methods with uint8 images (B, C, H, W), titled with their metrics."""
    own = drawn[0][1].shape[-1]
    side, margin, head, top = -(-SIDE // own) * own, 6, 16, 18 if prompts else 0
    height = top + len(drawn) * (side + margin + head)
    canvas = Image.new("RGB", (columns * (side + margin) + margin, height), "white")
    pen = ImageDraw.Draw(canvas)
    for column, prompt in enumerate(prompts):
        pen.text((margin + column * (side + margin) + side / 2, 4), prompt, fill="black", anchor="ma", font_size=13)
    for row, images in drawn:
        score = "alignment" if "alignment" in row else "accuracy"
        distance = f", Frechet distance {row['frechet']:.3f}" if "frechet" in row else ""
        pen.text((margin, top + 2), f"{title(row)}:  {score} {row[score]:.1%}{distance}", fill="black")
        for column, image in enumerate(images[:columns]):
            pixels = np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))
            tile = Image.fromarray(np.ascontiguousarray(pixels)).resize((side, side), Image.Resampling.NEAREST)
            canvas.paste(tile, (margin + column * (side + margin), top + head))
        top += side + margin + head
    return write_atomic(path, canvas.save)
