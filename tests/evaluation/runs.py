"""A small run of a real pipeline for the tests, importable by processes that they start."""

from pathlib import Path

import torch

from diffusion_guidance import RAAG
from diffusion_guidance.evaluation import (
    ChunkStore,
    Extractor,
    Reference,
    collect,
    describe_run,
    estimates_row,
    extractor_measure,
    pipeline_draw,
    summarise,
    write_report,
)
from diffusion_guidance.evaluation.store import CHUNK

from ..tiny import PROMPTS, tiny_sd3


EXTRACTOR = Extractor("patches", lambda images: torch.nn.functional.avg_pool2d(images, 16).flatten(1))


def noise_draw(seeds):
    """As quick as can be, and exact in any batch."""
    images = [torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(images), {"nfe": torch.full((len(seeds),), 2)}


def measure(images, seeds):
    return extractor_measure(EXTRACTOR)(images, seeds) | {"alignment": images.mean((1, 2, 3)) > 0.5}


def run(folder: Path, samples: int = 150, batch_size: int = 16, state=None, draw=None, chunk=CHUNK) -> ChunkStore:
    if draw is None:
        call = {"num_inference_steps": 2, "max_sequence_length": 1, "guidance_scale": 4.0}
        pipe = tiny_sd3()
        pipe.vae.register_to_config(shift_factor=0.0)  # which only training sets, and decoding needs
        draw = pipeline_draw(pipe, lambda seed: PROMPTS[seed % 2], [RAAG()], **call)
    return collect(folder, range(10, 10 + samples), draw, measure, {"test": 1}, batch_size, 8, state, chunk)


def report(folder: Path, store: ChunkStore) -> bytes:
    reference = Reference.of(torch.rand(200, 12, generator=torch.Generator().manual_seed(0)))
    figures = summarise(store, reference, ("frechet", "kid", "neighbours"))
    row = {"samples": store.samples} | estimates_row(figures)
    return write_report(folder / "report.json", describe_run(reference=reference.digest), [row]).read_bytes()


def run_and_report(folder: Path, samples: int) -> None:
    torch.set_num_threads(1)
    report(folder, run(folder, samples, chunk=16))
