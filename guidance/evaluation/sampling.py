"""Images from seeds: one random generator per seed, files named by seed, whole ones skipped."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from ..attachment.attach import attach
from ..core.callback import Guide
from ..core.files import sweep, write_atomic
from ..core.protocols import Pipeline


if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo


@dataclass(frozen=True)
class Job:
    """One image to draw: `condition` is a prompt, or a class id where the pipeline takes `class_labels`."""

    seed: int
    condition: str | int
    path: Path


def plan(conditions: Sequence[str | int], seeds: Sequence[int], folder: Path, pair: bool = False) -> list[Job]:
    """Every condition with every seed; with `pair`, seed s takes condition s modulo their number, whatever the others.

    Files are SEED.png, in a folder for each condition (000, 001, ...) where a seed is used more than once.
    """
    if pair or len(conditions) == 1:
        return [Job(seed, conditions[seed % len(conditions)], folder / f"{seed:06d}.png") for seed in seeds]
    return [
        Job(seed, condition, folder / f"{number:03d}" / f"{seed:06d}.png")
        for number, condition in enumerate(conditions)
        for seed in seeds
    ]


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator per seed, on the CPU, so that a seed means the same noise on every device and in every batch."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def sample(
    pipe: Pipeline, conditions: Sequence[str | int], seeds: Sequence[int], guidance: Sequence[Guide], **call: Any
) -> tuple[Any, float]:
    """Call `pipe` once: every prompt or class id with the generator of its seed.

    Returns:
        What the pipeline returned, and the network evaluations per image; a conditional and an unconditional pass
        count as one.
    """
    name = "class_labels" if isinstance(conditions[0], int) else "prompt"
    with attach(pipe, guidance) if guidance else nullcontext() as attachment:
        output = pipe(**{name: list(conditions)}, generator=generators(seeds), **call)
        evaluations = len(pipe.scheduler.timesteps) + (0 if attachment is None else attachment.evaluations)
    return output, evaluations


def generate(
    pipe: Pipeline,
    jobs: Sequence[Job],
    guidance: Sequence[Guide],
    batch_size: int = 8,
    drawn: Callable[[Sequence[Job]], object] = lambda jobs: None,
    info: "Callable[[Job], PngInfo | None]" = lambda job: None,
    **call: Any,
) -> Iterator[Path]:
    """Draw those `jobs` that have no whole image yet, and yield each path when its file is whole.

    An image depends on its seed and condition, not on the batch (except for rounding: kernels sum in an order that can
    depend on the batch's size). A killed run that is started again draws the rest. Files that are empty, damaged, or of
    another size than most are drawn again.

    Args:
        drawn: called with the jobs of a batch before their files are written.
        info: what each file says about itself, see `record`.

    Raises:
        ValueError: the pipeline draws another size than the images that are there.
    """
    for folder in {job.path.parent for job in jobs}:
        sweep(folder)
    sizes = {job: size for job in jobs if (size := image_size(job.path)) is not None}
    expected = Counter(sizes.values()).most_common(1)[0][0] if sizes else None
    missing = deque(job for job in jobs if job not in sizes or sizes[job] != expected)
    with tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="image", desc="drawing") as progress:
        while missing:
            batch = [missing.popleft() for _ in range(min(batch_size, len(missing)))]
            conditions, seeds = zip(*((job.condition, job.seed) for job in batch), strict=True)
            images = sample(pipe, conditions, seeds, guidance, output_type="pil", **call)[0].images
            if expected not in (None, images[0].size):
                raise ValueError(
                    f"the images in {batch[0].path.parent} have {expected[0]} x {expected[1]} pixels, but the pipeline "
                    f"draws {images[0].size[0]} x {images[0].size[1]}; choose another folder"
                )
            drawn(batch)
            for job, image in zip(batch, images, strict=True):
                write_atomic(job.path, partial(image.save, pnginfo=info(job)))
                progress.update()
                yield job.path


def image_size(path: Path) -> tuple[int, int] | None:
    """(width, height) of a PNG file whose checksums are right to its end; None if it is not there or is damaged."""
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            size = image.size
            image.verify()
            return size
    except Exception:  # decoders of damaged files raise anything
        return None
