"""RAAG against plain classifier-free guidance on the emoji checkpoint: docs/results/emoji-raag.json and its plot.

Every row is drawn from the same seeds and captions. RAAG's constants are fitted in closed form to a few runs of ten
steps, for two late weights; four settings around them form a grid. Images are kept in --work apart from what is read in
them, so a killed study goes on where it stopped, and another judge reads the same images. An hour on one quiet core:

    python -m scripts.studies.emoji_raag
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline

from diffusion_guidance import CFG, RAAG, DiffIER, Trace, fit_raag
from diffusion_guidance.core.callback import Guide
from diffusion_guidance.core.files import write_json
from diffusion_guidance.core.plots import COLORS, canvas, write_plot
from diffusion_guidance.evaluation import markdown_table
from diffusion_guidance.evaluation.effective import FIELD, weight_estimate
from diffusion_guidance.evaluation.identity import pipeline_weights
from diffusion_guidance.evaluation.metrics.estimate import mean_estimate
from diffusion_guidance.evaluation.run import Measure, collect, pipeline_draw
from diffusion_guidance.evaluation.store import ChunkStore
from diffusion_guidance.evaluation.study import row_name
from diffusion_guidance.evaluation.subjects import load_subject
from diffusion_guidance.evaluation.summary import estimates_row, summarise
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.emoji_judge import EmojiJudge
from scripts.studies.study import DTYPE, Report, Run, Study, Table, span


WEIGHTS = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0)
LATE_WEIGHTS = (3.0, 5.0)  # for which RAAG is fitted, with 1.5 at the first step
GRID = tuple(itertools.product((3.0, 7.0), (1.6, 6.4)))  # (w_max, alpha)
STEPS = (5, 10, 30)
SAMPLES = 500
ITERATION = ("objective", "iterations", "step_size", "reuse", "stop")  # the fields of a row for DiffIER
CALL = {"max_sequence_length": 1, "guidance_scale": 2.0}  # its weight only switches the unconditional pass on


def table(fitted: Sequence[Mapping]) -> list[dict]:
    """What distinguishes the rows: method, its parameters, and the number of steps. Few at 30 steps."""
    cfg = [{"method": "cfg", "weight": weight} for weight in WEIGHTS]
    raag = [{"method": "raag", "w_max": w_max, "alpha": alpha} for w_max, alpha in GRID]
    few = [*cfg[:4], *fitted]
    return [dict(row) | {"steps": count} for count in STEPS for row in (few if count == 30 else [*cfg, *fitted, *raag])]


def fit(pipe: DiffusionPipeline, captions: Sequence[str], path: Path) -> list[dict]:
    """Rows of RAAG fitted for each of the late weights; kept in `path`."""
    if not path.exists():
        rows = []
        for weight in LATE_WEIGHTS:
            call = CALL | {"prompt": list(captions[:32]), "num_inference_steps": 10, "guidance_scale": weight}
            found = fit_raag(pipe, call | {"output_type": "latent"}, first_weight=1.5)
            rows.append({"method": "raag", "w_max": round(found.w_max, 2), "alpha": round(found.alpha, 2)})
            rows[-1]["fitted_for"] = weight
        write_json(path, rows)
    return json.loads(path.read_text(encoding="utf-8"))


def callbacks(row: Mapping) -> list[Guide]:
    """The guidance of a row: RAAG or plain, and DiffIER where the row has its step size."""
    given = {name: row[name] for name in ITERATION if name in row}
    plain = RAAG(row["w_max"], row["alpha"]) if "w_max" in row else CFG(row["weight"])
    return [plain, DiffIER(**given)] if given else [plain]


def draw(
    folder: Path,
    pipe: DiffusionPipeline,
    captions: Sequence[str],
    row: Mapping,
    samples: int,
    of: str = "emoji world",
    guidance: Callable[[Sequence[int]], list[Guide]] | None = None,
    error: bool = False,
) -> ChunkStore:
    """The images of `row`, one for each seed, with `captions` in rotation.

    Args:
        guidance: the callbacks for the images of some seeds; None for `callbacks(row)`.
        error: store the accumulated error of each image too.
    """
    call, trace = CALL | {"num_inference_steps": row["steps"]}, Trace(levels=False, error=True)

    def drawn(seeds: Sequence[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        guides = [*(guidance(seeds) if guidance else callbacks(row)), *([trace] if error else [])]
        return pipeline_draw(pipe, lambda seed: captions[seed % len(captions)], guides, **call)(seeds)

    def measured(images: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        found = {"error": trace.accumulated_error()} if error else {}
        trace.clear()
        return found

    facts = {"conditions": f"of the {of}", "row": dict(row), "call": call, "weights": pipeline_weights(pipe)}
    facts |= {"error": True} if error else {}
    batch = 50 if pipe.device.type == "cpu" else 256
    return collect(folder / "drawn", range(samples), drawn, measured, facts, batch, keep=samples, chunk=max(batch, 64))


def read(folder: Path, images: torch.Tensor, measure: Measure, settings: Mapping) -> ChunkStore:
    """What `measure` finds in images (N, 3, 64, 64) uint8 of the seeds from 0."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    drawn = lambda seeds: (images[list(seeds)].float() / 255, {})  # noqa: E731
    return collect(folder / f"read-{digest}", range(len(images)), drawn, measure, settings, 64)


def cost(drawn: ChunkStore) -> dict:
    """`nfe`, evaluations an image, `effective_weight`, and the error where there is one, of what `draw` has drawn."""
    found = estimates_row(weight_estimate(drawn.array(FIELD))) if FIELD in drawn.names() else {}
    found |= mean_estimate("error", drawn.array("error")).as_row() if "error" in drawn.names() else {}
    return {"nfe": int(drawn.array("nfe")[0]), "samples": drawn.samples} | found


def drawn_rows(
    run: Run, pipe: DiffusionPipeline, rows: Sequence[dict], error: bool = False
) -> tuple[dict, list[dict], list[ChunkStore]]:
    """The facts, the rows with what was found, and what was read in the images of each.

    Args:
        error: also the accumulated error, except where evaluations are reused, since it is unknown there.
    """
    count = run.samples or SAMPLES
    subject = load_subject("emoji", run.assets, pipe.device)
    captions = EmojiJudge.load_config(run.assets / "emoji-judge")["captions"]
    found, stores = [], []
    for row in run.wanted(rows):
        place = run.work / str(count) / row_name(row)
        drawn = draw(place, pipe, captions, row, count, error=error and not row.get("reuse"))
        stores.append(read(place, torch.from_numpy(drawn.array("images")), subject.measure, subject.settings))
        found.append(row | cost(drawn) | estimates_row(summarise(stores[-1], subject.reference)))
    facts = {"samples": count, "seeds": span(count), "checkpoint": "assets/emoji", "dtype": DTYPE["emoji"]}
    return facts | dict(subject.settings), found, stores


def with_gains(rows: Sequence[dict], stores: Sequence[ChunkStore]) -> list[dict]:
    """Each row of RAAG with its alignment minus that of the best row of CFG in as many steps, on the same seeds.

    The best row is chosen by the same images, so the difference favours CFG a little.
    """
    right = [store.array("alignment").astype(np.float32) for store in stores]
    result = []
    for row, ours in zip(rows, right, strict=True):
        peers = [i for i, one in enumerate(rows) if one["method"] == "cfg" and one["steps"] == row["steps"]]
        best = max(peers, key=lambda i: rows[i]["alignment"], default=None)
        compared = best is not None and row["method"] != "cfg"
        result.append(row | (mean_estimate("gain", ours - right[best]).as_row() if compared else {}))
    return result


def every_row(meta: dict, rows: list[dict]) -> str:
    """The whole table, under what it was measured with."""
    facts = f"{meta['samples']} images a row, seeds {meta['seeds']}, {meta['dtype']}.\n\n"
    columns = ["method", "weight", "w_max", "alpha", "fitted_for", "steps", FIELD, "alignment", "gain", "name", "style"]
    return facts + markdown_table(rows, [*columns, "frechet"], digits=3)


def measure(run: Run) -> tuple[dict, list[dict]]:
    pipe = load_pipeline(str(run.assets / "emoji"), DTYPE["emoji"])
    captions = EmojiJudge.load_config(run.assets / "emoji-judge")["captions"]
    fitted = fit(pipe, captions[::-1], run.work / str(run.samples or SAMPLES) / "fitted.json")
    facts, rows, stores = drawn_rows(run, pipe, table(fitted))
    return facts, with_gains(rows, stores)


def plot(path: Path, rows: Sequence[Mapping]) -> None:
    """The alignment of every row with its interval, a panel for each number of steps."""

    def label(row: Mapping) -> str:
        if row["method"] == "cfg":
            return f"CFG {row['weight']:g}"
        return f"RAAG {row['w_max']:g}, {row['alpha']:g}" + (" (fitted)" if "fitted_for" in row else "")

    labels = list(dict.fromkeys(label(row) for row in rows))
    counts = sorted({row["steps"] for row in rows})
    figure = canvas(9, 4)
    for axes, steps in zip(figure.subplots(1, len(counts), sharey=True, squeeze=False)[0], counts, strict=True):
        for row in (row for row in rows if row["steps"] == steps):
            color, place = COLORS[row["method"]], labels.index(label(row))
            axes.plot(row["alignment"], place, "D" if "fitted_for" in row else "o", color=color)
            axes.hlines(place, *row["alignment_interval"], color=color)
        axes.set(title=f"{steps} steps", xlabel="alignment", xlim=(0, 0.75))
        axes.set_yticks(range(len(labels)), labels)
        axes.grid(axis="x", alpha=0.3)
    axes.invert_yaxis()
    write_plot(path, figure)


STUDY = Study(
    __doc__,
    (Report("emoji-raag", measure, (Table("docs/emoji.md", "raag", "emoji-raag", every_row),), {"": plot}),),
    samples=str(SAMPLES),
)

if __name__ == "__main__":
    STUDY.main()
