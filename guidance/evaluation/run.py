"""Sampling and measuring many pictures over any number of processes, so that a killed run goes on where it stopped."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

import torch
from tqdm import tqdm

from ..networks.extractors import Extractor
from .metrics.registry import METRICS
from .sampling import keep_settings, sample
from .store import CHUNK, ChunkStore


#: Pictures (B, 3, H, W) in [0, 1] of B seeds, and further arrays with one row a seed.
Draw = Callable[[Sequence[int]], tuple[torch.Tensor, dict[str, torch.Tensor]]]
#: Arrays with one row for each of the pictures (B, 3, H, W) of B seeds.
Measure = Callable[[torch.Tensor, Sequence[int]], dict[str, torch.Tensor]]


def pipeline_draw(pipe, condition: Callable[[int], str | int], guidance: Sequence, **call) -> Draw:
    """Draw with a diffusers pipeline: seed s gets `condition(s)`, a prompt or a class id, and a generator of its own.

    The generators live on the CPU, so a seed means the same noise on every device, in every batch, in every process.
    The further array is `nfe`, network evaluations a picture, as `sample` counts them.

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
        output, nfe = sample(pipe, conditions, seeds, guidance, output_type="pt", **call)
        return output.images, {"nfe": torch.full((len(seeds),), nfe)}

    return draw


def extractor_measure(extractor: Extractor, condition: Callable[[int], str | int] | None = None) -> Measure:
    """Measure `features`, `logits` where the extractor gives them, and every score of single images that the registry
    knows: those of text and image with prompts and CLIP only."""

    def measure(images: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        arrays = extractor(images)
        captions = [condition(seed) for seed in seeds] if condition is not None else []
        given = {**arrays, "images": images}
        if extractor.embed_texts is not None and captions and isinstance(captions[0], str):
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
    state=None,
    chunk: int = CHUNK,
) -> ChunkStore:
    """Draw and measure the picture of every seed, and return what was stored in `folder`.

    Each process of `accelerate launch` or `torchrun` takes its share of what is missing, and all return when all is
    there. Killed at any moment and started again with the same arguments, by as many processes or another number, the
    run ends with the same files. `folder` must be seen by all processes. Pictures are rounded to 8 bits before they are
    measured, so that figures are those of the picture files.

    Args:
        settings: what the result depends on, JSON-serialisable; kept beside the results and compared on restart.
        batch_size: pictures at once; at the end of a chunk of samples there may be fewer.
        keep: how many of the first pictures to store too, as `images` uint8 (B, 3, H, W), rounded up to whole chunks.
        state: accelerate's PartialState; None makes it from the environment.
        chunk: samples a file, and at most in a batch. `find_run` reads runs of the default only.

    Raises:
        ValueError: the folder holds a run of other settings, or arrays without one row a picture.
    """
    state = state or process_state()
    store = ChunkStore(Path(folder) / "samples", len(seeds), chunk)
    with state.main_process_first():
        keep_settings(Path(folder), {**settings, "seeds": describe_seeds(seeds), "keep": keep})
        if state.is_main_process:
            store.sweep()
    missing = store.missing()
    state.wait_for_everyone()  # nobody writes before everybody has looked
    mine = missing[state.process_index :: state.num_processes]
    progress = tqdm(
        total=sum(map(len, mine)), unit="picture", desc=Path(folder).name, disable=not state.is_local_main_process
    )
    with progress:
        for part in mine:
            images, arrays = _measure_chunk(seeds[part.start : part.stop], draw, measure, batch_size, progress.update)
            store.write(part, arrays | ({"images": images} if part.start < keep else {}))
    state.wait_for_everyone()
    return store


def _measure_chunk(
    seeds: Sequence[int], draw: Draw, measure: Measure, batch_size: int, done: Callable[[int], object]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Pictures (N, 3, H, W) uint8 of N seeds, and everything measured, N rows each."""
    parts = []
    for i in range(0, len(seeds), batch_size):
        batch = seeds[i : i + batch_size]
        images, arrays = draw(batch)
        images = (images.float().clamp(0, 1) * 255).round()
        part = {"images": images.to(torch.uint8), **arrays, **measure(images / 255, batch)}
        parts.append({name: values.cpu() for name, values in part.items()})
        done(len(batch))
    arrays = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return arrays.pop("images"), arrays


def process_state():
    """This process among those of `accelerate launch` or `torchrun`, as accelerate's PartialState; alone, the only one.

    A process that has finished its share waits for the others up to a week.
    """
    from accelerate import PartialState  # lazy: slow to import

    # Without `cpu` several processes on a machine without an accelerator would each take themselves for the only one.
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
