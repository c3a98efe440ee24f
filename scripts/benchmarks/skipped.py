"""What skipping unread unconditional passes saves: an interval over half of the steps, against CFG in all of them.

    python -m scripts.benchmarks skipped --json out/skipped.json     # some minutes on one core

In one run, in turns: the plain pipeline with CFG, the same call without CFG, and the interval with and without its
skipped passes. With r = time without CFG / time with CFG, half of the steps without an unconditional pass take
(1 + r) / 2 of the time, plus the attachment's fixed cost per step, which shows where the network is tiny.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch

from diffusion_guidance import GuidanceInterval, attach
from diffusion_guidance.core.levels import level_at_index
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.shapes_measure import caption
from scripts.benchmarks.frame import Benchmark
from scripts.benchmarks.random_pipelines import BENCHES, SIZES
from scripts.benchmarks.timing import interleaved, medians, ratio


STEPS = 10
WEIGHT = 5.0


def calls(args: argparse.Namespace) -> Iterator[tuple[str, object, Callable[[float], torch.Tensor]]]:
    """(network, pipeline, its call with a weight) of what is timed; latents."""
    options = {"num_inference_steps": STEPS, "output_type": "latent"}
    shapes = load_pipeline(str(args.assets / "shapes"))
    prompts = [caption(seed) for seed in range(8)]

    def draw_shapes(weight: float) -> torch.Tensor:
        noise = torch.Generator().manual_seed(0)
        return shapes(prompts, guidance_scale=weight, max_sequence_length=1, generator=noise, **options)[0]

    yield "shapes, batch 8", shapes, draw_shapes
    for size in args.sizes:
        for name in ("StableDiffusion3", "Wan", "Flux"):
            torch.manual_seed(0)
            pipe, inputs = BENCHES[name].build(SIZES[size]), BENCHES[name].inputs(SIZES[size])
            argument = "true_cfg_scale" if "true_cfg_scale" in inputs else "guidance_scale"

            def draw(weight: float, pipe: object = pipe, inputs: dict = inputs, name: str = argument) -> torch.Tensor:
                return pipe(**inputs | {name: weight}, generator=torch.Generator().manual_seed(0), **options)[0]

            yield f"{name}, {size}", pipe, draw


def half(pipe: object) -> GuidanceInterval:
    """The interval that holds the first half of the steps of the last call."""
    above, below = (level_at_index(pipe.scheduler, index) for index in (STEPS // 2 - 1, STEPS // 2))
    return GuidanceInterval(low=float((above[1] / above[0] + below[1] / below[0]) / 2), high=None)


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for network, pipe, draw in calls(args):
        pipe.set_progress_bar_config(disable=True)
        draw(WEIGHT)
        interval = half(pipe)

        def attached(
            skip: bool, pipe: object = pipe, draw: Callable = draw, interval: GuidanceInterval = interval
        ) -> tuple[torch.Tensor, float]:
            with attach(pipe, interval, skip=skip) as attachment:
                return draw(WEIGHT), STEPS + attachment.evaluations

        (both, nfe_both), (skipped, nfe) = attached(False), attached(True)
        times = interleaved(
            {
                "cfg": partial(draw, WEIGHT),
                "without_cfg": partial(draw, 1.0),
                "interval": partial(attached, False),
                "skipped": partial(attached, True),
            },
            args.rounds,
        )
        row = {"network": network, "steps": STEPS, "nfe": nfe, "nfe_both": nfe_both}
        row |= {"difference": float((skipped - both).abs().max() / both.abs().max())}
        row |= ratio("r", times["without_cfg"], times["cfg"]) | ratio("time_ratio", times["skipped"], times["cfg"])
        yield row | {"bound": (1 + row["r"]) / 2 + 0.03} | medians(times)


def options(parser: argparse.ArgumentParser) -> None:
    text = "sizes of the random networks (default: tiny small)"
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "small"], help=text)


TEXT = "{network}: {time_ratio:.3f} of the time of CFG, r {r:.3f}, bound {bound:.3f}, differs by {difference:.1e}"
BENCHMARK = Benchmark(__doc__, rows, ("rounds", "sizes"), TEXT, options, rounds=20)
