"""What an attachment costs: the shapes pipeline as it is, against the same call with RAAG attached."""

import argparse
from collections.abc import Iterator
from functools import partial

import torch

from diffusion_guidance import RAAG, attach
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.shapes_measure import caption
from scripts.benchmarks.frame import Benchmark
from scripts.benchmarks.timing import interleaved, medians, ratio


def rows(args: argparse.Namespace) -> Iterator[dict]:
    pipe = load_pipeline(str(args.assets / "shapes"))

    def plain(prompts: list[str]) -> None:
        generator = torch.Generator().manual_seed(0)
        pipe(prompts, num_inference_steps=10, generator=generator, output_type="latent", max_sequence_length=1)

    def attached(prompts: list[str]) -> None:
        with attach(pipe, RAAG(w_max=10, alpha=8)):
            plain(prompts)

    for batch in (1, 8):
        prompts = [caption(seed) for seed in range(batch)]
        ways = {"plain": partial(plain, prompts), "attached": partial(attached, prompts)}
        times = interleaved(ways, args.rounds)
        yield {"batch": batch, **ratio("time_ratio", times["attached"], times["plain"]), **medians(times)}


TEXT = "batch {batch}: plain {plain_ms:.1f} ms, attached {attached_ms:.1f} ms, ratio {time_ratio:.4f}"
BENCHMARK = Benchmark(__doc__, rows, ("rounds",), TEXT, lambda parser: None, rounds=40)
