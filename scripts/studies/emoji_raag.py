"""RAAG against plain classifier-free guidance on the emoji checkpoint: docs/results/emoji-raag.json and its plot.

Every row is drawn from the same seeds and captions. RAAG's constants are fitted in closed form to a few runs of ten
steps, for two late weights; four settings around them form a grid. Images are kept in --work apart from what is read in
them, so a killed study goes on where it stopped, and another judge reads the same images. An hour on one quiet core:

    python -m scripts.studies.emoji_raag
"""

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline

from diffusion_guidance import CFG, RAAG, fit_raag
from diffusion_guidance.core.files import write_json
from diffusion_guidance.evaluation import markdown_table, pareto_plot
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


def draw(
    folder: Path, pipe: DiffusionPipeline, captions: Sequence[str], row: Mapping, samples: int, of: str = "emoji world"
) -> ChunkStore:
    """The images of `row`, one for each seed, with `captions` in rotation."""
    guidance = [CFG(row["weight"]) if row["method"] == "cfg" else RAAG(row["w_max"], row["alpha"])]
    call = CALL | {"num_inference_steps": row["steps"]}
    drawn = pipeline_draw(pipe, lambda seed: captions[seed % len(captions)], guidance, **call)
    facts = {"conditions": f"of the {of}", "row": dict(row), "call": call, "weights": pipeline_weights(pipe)}
    return collect(folder / "drawn", range(samples), drawn, lambda images, seeds: {}, facts, 50, keep=samples)


def read(folder: Path, images: torch.Tensor, measure: Measure, settings: Mapping) -> ChunkStore:
    """What `measure` finds in images (N, 3, 64, 64) uint8 of the seeds from 0."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    drawn = lambda seeds: (images[list(seeds)].float() / 255, {})  # noqa: E731
    return collect(folder / f"read-{digest}", range(len(images)), drawn, measure, settings, 64)


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
    columns = [
        "method",
        "weight",
        "w_max",
        "alpha",
        "fitted_for",
        "steps",
        "alignment",
        "gain",
        "name",
        "style",
        "frechet",
    ]
    return facts + markdown_table(rows, columns, digits=3)


def measure(run: Run) -> tuple[dict, list[dict]]:
    count, folder = run.samples or SAMPLES, run.work / str(run.samples or SAMPLES)
    pipe = load_pipeline(str(run.assets / "emoji"), DTYPE["emoji"])
    subject = load_subject("emoji", run.assets)
    captions = EmojiJudge.load_config(run.assets / "emoji-judge")["captions"]
    fitted = fit(pipe, captions[::-1], folder / "fitted.json")
    rows, stores = [], []
    for row in run.wanted(table(fitted)):
        place = folder / row_name(row)
        images = torch.from_numpy(draw(place, pipe, captions, row, count).array("images"))
        stores.append(read(place, images, subject.measure, subject.settings))
        found = estimates_row(summarise(stores[-1], subject.reference))
        rows.append(row | {"nfe": row["steps"], "samples": count} | found)
    facts = {"samples": count, "seeds": span(count), "checkpoint": "assets/emoji", "dtype": DTYPE["emoji"]}
    return facts | dict(subject.settings), with_gains(rows, stores)


def plot(path: Path, rows: Sequence[Mapping]) -> None:
    """One curve a method and number of steps: RAAG's fitted settings and its grid are points."""
    points = []
    for row in rows:
        cfg = row["method"] == "cfg"
        label = f"{row['weight']:g}" if cfg else f"{row['w_max']:g}, {row['alpha']:g}"
        points.append(row | {"curve": f"{row['method'].upper()}, {row['steps']} steps", "label": label})
    pareto_plot(path, points, "frechet", "alignment", "curve", "label", "points: CFG weight; RAAG w_max, alpha")


STUDY = Study(
    __doc__,
    (Report("emoji-raag", measure, (Table("docs/emoji.md", "raag", "emoji-raag", every_row),), {"": plot}),),
    samples=str(SAMPLES),
)

if __name__ == "__main__":
    STUDY.main()
