"""What `generate --compare` does: the same prompts and seeds with each method, as one sheet and one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from tqdm import tqdm

from ..core.configuration import to_config
from ..evaluation.effective import FIELD, EffectiveWeight
from ..evaluation.sampling import Job, sample
from ..evaluation.settings import keep_settings
from .comparison_sheet import Row, write_page, write_sheet
from .guidance import OWN, parse_method


if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from ..core.callback import Callback, Guide


def methods(texts: Sequence[str]) -> "list[tuple[str, list[Callback]]]":
    """Name and callbacks of each row, in order; `none` is the pipeline's own guidance.

    Raises:
        ValueError: a method is unknown, or stands there twice.
    """
    if twice := [text for text in texts if texts.count(text) > 1]:
        raise ValueError(f"--compare {twice[0]} is there twice; give it once")
    return [(text, parse_method(text)) for text in texts]


def compare(
    out: Path,
    pipe: "DiffusionPipeline",
    jobs: Sequence[Job],
    rows: "Sequence[tuple[str, list[Callback]]]",
    settings: dict[str, object],
    batch_size: int,
    call: dict[str, object],
) -> None:
    """Draw every job with every method, and write compare.png and compare.html to the folder `out`."""
    seeds = [job.seed for job in jobs]
    compared = [{"method": text, "guidance": to_config(callbacks)} for text, callbacks in rows]
    keep_settings(out, {**settings, "compare": compared, "seeds": seeds})
    with tqdm(total=len(rows) * len(jobs), unit="image", desc="comparing") as progress:
        drawn = [draw_row(pipe, jobs, text, callbacks, batch_size, call, progress) for text, callbacks in rows]
    heads = [str(job.condition) if isinstance(job.condition, str) else f"class {job.condition}" for job in jobs]
    title = f"{settings['pipeline']}: {call['num_inference_steps']} steps, equal seeds in every row"
    print(f"sheet: {write_sheet(out / 'compare.png', title, heads, drawn)}")
    print(f"page: {write_page(out / 'compare.html', title, heads, drawn)}")


def draw_row(
    pipe: "DiffusionPipeline",
    jobs: Sequence[Job],
    method: str,
    guidance: "Sequence[Callback]",
    batch_size: int,
    call: dict[str, object],
    progress: tqdm,
) -> Row:
    """One method on every job. Weights are effective ones, where the method has both predictions; a conditional and an
    unconditional pass count as one evaluation."""
    images: list[Image.Image] = []
    texts: list[str] = []
    evaluations = 0.0
    for start in range(0, len(jobs), batch_size):
        batch = jobs[start : start + batch_size]
        observer = EffectiveWeight()
        guided: list[Guide] = [*guidance, observer] if guidance else []
        conditions, seeds = [job.condition for job in batch], [job.seed for job in batch]
        output, evaluations = sample(pipe, conditions, seeds, guided, output_type="pil", **call)
        weights = [f", weight {weight:.2f}" for weight in observer.take().get(FIELD, ())] or [""] * len(batch)
        images += output.images
        texts += [f"seed {seed}{weight}" for seed, weight in zip(seeds, weights, strict=True)]
        progress.update(len(batch))
    return Row("the pipeline's own guidance" if method == OWN else method, evaluations, images, texts)
