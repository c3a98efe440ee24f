"""Sampling and measuring many images over any number of processes, so that a killed run resumes where it stopped."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from ..core.callback import Guide
from ..core.locking import locked_folder
from ..core.protocols import Pipeline
from ..networks.extractors import Extractor
from .effective import EffectiveWeight
from .metrics.registry import METRICS
from .sampling import sample
from .settings import keep_settings
from .store import CHUNK, ChunkStore


if TYPE_CHECKING:
    from accelerate import PartialState

KEPT_SIDE = 256  # pixels per side, at most, of images that are stored for a sheet

#: Images (B, 3, H, W) in [0, 1] of B seeds, and further arrays with one row per seed.
Draw = Callable[[Sequence[int]], tuple[torch.Tensor, dict[str, torch.Tensor]]]
#: Arrays with one row for each of the images (B, 3, H, W) of B seeds.
Measure = Callable[[torch.Tensor, Sequence[int]], dict[str, torch.Tensor]]


def pipeline_draw(
    pipe: Pipeline, condition: Callable[[int], str | int], guidance: Sequence[Guide], **call: Any
) -> Draw:
    """Draw with a diffusers pipeline: seed s gets `condition(s)`, a prompt or a class id, and its own generator.

    The generators live on the CPU, so a seed means the same noise on every device, in every batch, in every process.
    The further arrays are `nfe`, network evaluations per image, as `sample` counts them, and `effective_weight` where
    callbacks guide a pipeline that makes both predictions; see `EffectiveWeight`.

    Raises:
        ValueError: when called, if the pipeline's call does not take one of the arguments.
    """

    def draw(seeds: Sequence[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        known = inspect.signature(pipe.__call__).parameters
        open_ended = any(each.kind is each.VAR_KEYWORD for each in known.values())
        conditions = [condition(seed) for seed in seeds]
        asked = [*call, "class_labels" if isinstance(conditions[0], int) else "prompt"]
        if not open_ended and (unknown := [name for name in asked if name not in known]):
            raise ValueError(f"{type(pipe).__name__} takes no {', '.join(unknown)}; it takes {', '.join(known)}")
        observer = EffectiveWeight()
        guided: list[Guide] = [*guidance, observer] if guidance else []
        output, nfe = sample(pipe, conditions, seeds, guided, output_type="pt", **call)
        return output.images, {"nfe": torch.full((len(seeds),), nfe), **observer.take()}

    return draw


def extractor_measure(extractor: Extractor, condition: Callable[[int], str | int] | None = None) -> Measure:
    """Measure `features`, `logits` where the extractor gives them, and every score of single images that the registry
    knows; scores of text and image with prompts and CLIP only."""

    def measure(images: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        arrays = extractor(images)
        asked = [condition(seed) for seed in seeds] if condition is not None else []
        captions = [text for text in asked if isinstance(text, str)]
        given = {**arrays, "images": images}
        if extractor.embed_texts is not None and captions:
            given["texts"] = extractor.embed_texts(captions)
        for metric in METRICS.values():
            if metric.per_image and given.keys() >= set(metric.needs):
                arrays[metric.name] = metric.function(*(given[need] for need in metric.needs))
        return arrays

    return measure


def collect(
    folder: Path,
    seeds: Sequence[int],
    draw: Draw,
    measure: Measure,
    settings: Mapping,
    batch_size: int = 16,
    keep: int = 0,
    state: "PartialState | None" = None,
    chunk: int = CHUNK,
) -> ChunkStore:
    """Draw and measure the image of every seed, and return what was stored in `folder`.

    Each process of `accelerate launch` or `torchrun` takes its share of what is missing, and all return when all is
    there. Killed at any moment and started again with the same arguments, by as many processes or another number, the
    run ends with the same files. `folder` must be seen by all processes, and is locked meanwhile: two commands cannot
    write to it at once. Images are rounded to 8 bits before they are measured, as image files are. Memory holds the
    images of one batch.

    Args:
        settings: what the result depends on, JSON-serialisable; kept next to the results and compared on restart.
        batch_size: images at once; at the end of a chunk of samples there may be fewer.
        keep: how many of the first images to store too, as `images` uint8 (B, 3, H, W), rounded up to whole chunks and
            made smaller to at most `KEPT_SIDE` pixels per side.
        state: accelerate's PartialState; None makes it from the environment.
        chunk: samples per file, and at most in a batch. `find_run` reads runs of the default only.

    Raises:
        ValueError: the folder holds a run of other settings or is in use, or arrays without one row per image.
    """
    state = state or process_state()
    store = ChunkStore(Path(folder) / "samples", len(seeds), chunk)
    with locked_for_all(folder, state):
        with state.main_process_first():
            keep_settings(Path(folder), {**settings, "seeds": describe_seeds(seeds), "keep": keep})
            if state.is_main_process:
                store.sweep()
        missing = store.missing()
        state.wait_for_everyone()  # no process writes before all have read
        mine = missing[state.process_index :: state.num_processes]
        total = sum(map(len, mine))
        with tqdm(
            total=total, unit="image", desc=Path(folder).name, disable=not state.is_local_main_process
        ) as progress:
            for part in mine:
                some = seeds[part.start : part.stop]
                store.write(part, _measure_chunk(some, draw, measure, batch_size, part.start < keep, progress.update))
        state.wait_for_everyone()
    return store


def _measure_chunk(
    seeds: Sequence[int], draw: Draw, measure: Measure, batch_size: int, keep: bool, done: Callable[[int], object]
) -> dict[str, torch.Tensor]:
    """Everything measured of N seeds, N rows each; with `keep` the images too. In memory are the images of a batch."""
    parts = []
    for i in range(0, len(seeds), batch_size):
        batch = seeds[i : i + batch_size]
        images, arrays = draw(batch)
        images = (images.float().clamp(0, 1) * 255).round()
        part = {**arrays, **measure(images / 255, batch)} | ({"images": _small(images)} if keep else {})
        parts.append({name: values.cpu() for name, values in part.items()})
        done(len(batch))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _small(images: torch.Tensor) -> torch.Tensor:
    """Images (B, C, H, W) with values up to 255 as uint8, of at most `KEPT_SIDE` pixels per side."""
    scale = KEPT_SIDE / max(images.shape[-2:])
    if scale < 1:
        size = [max(1, round(side * scale)) for side in images.shape[-2:]]
        images = torch.nn.functional.interpolate(images, size, mode="area").round()
    return images.to(torch.uint8)


@contextmanager
def locked_for_all(folder: Path, state: "PartialState") -> Iterator[None]:
    """Hold the lock of `folder` for all processes of this command; its main process holds it.

    Raises:
        ValueError: in every process, if another command holds it.
    """
    with ExitStack() as stack:
        refused = None
        if state.is_main_process:
            try:
                stack.enter_context(locked_folder(folder))
            except (ValueError, OSError) as error:
                refused = str(error)
        if state.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            (refused,) = broadcast_object_list([refused])
        if refused is not None:
            raise ValueError(refused)
        yield


def process_state() -> "PartialState":
    """This process among the processes of `accelerate launch` or `torchrun`, as accelerate's PartialState.

    A process that has finished its share waits for the others up to a week.
    """
    from accelerate import PartialState  # lazy: slow to import

    # Without `cpu`, each of several processes on a machine without an accelerator would run as the only one.
    return PartialState(cpu=not torch.accelerator.is_available(), timeout=timedelta(days=7))


def describe_seeds(seeds: Sequence[int]) -> list[list[int]]:
    """`seeds` as a list of [first, last] of runs of consecutive numbers, to be short in a report."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return runs
