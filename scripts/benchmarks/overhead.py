"""What an attachment costs, against the plain pipeline: a callback that does nothing, and RAAG.

    python -m scripts.benchmarks overhead --json out/overhead.json

The shapes checkpoint, and tiny networks, in which the attachment is most of the time. The ratio is the median over
rounds of all ways in turns; microseconds per step come from the fastest call of each way, which other work on the
machine disturbs least.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch

from diffusion_guidance import RAAG, attach
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.shapes_measure import caption
from scripts.benchmarks.frame import Benchmark
from scripts.benchmarks.random_pipelines import BENCHES, SIZES
from scripts.benchmarks.timing import interleaved, medians, ratio


STEPS = 20
CALLBACKS = {"nothing": lambda step, proceed: proceed(step), "raag": RAAG(w_max=10, alpha=8)}


def calls(args: argparse.Namespace) -> Iterator[tuple[str, int, object, Callable[[], object]]]:
    """(network, batch, pipeline, its call) of what is timed."""
    shapes = load_pipeline(str(args.assets / "shapes"))
    for batch in (1, 8):
        prompts = [caption(seed) for seed in range(batch)]
        yield "shapes", batch, shapes, partial(shapes, prompts, max_sequence_length=1)
    for name in ("StableDiffusion3", "Wan"):
        torch.manual_seed(0)
        pipe = BENCHES[name].build(SIZES["tiny"])
        yield f"{name}, tiny", 1, pipe, partial(pipe, **BENCHES[name].inputs(SIZES["tiny"]))


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for network, batch, pipe, call in calls(args):
        pipe.set_progress_bar_config(disable=True)

        def plain(call: Callable = call) -> None:
            call(num_inference_steps=STEPS, generator=torch.Generator().manual_seed(0), output_type="latent")

        def attached(callback: Callable, plain: Callable = plain, pipe: object = pipe) -> None:
            with attach(pipe, callback):
                plain()

        ways = {"plain": plain} | {name: partial(attached, callback) for name, callback in CALLBACKS.items()}
        for way in ways.values():
            way()
        times = interleaved(ways, args.rounds)
        for name in CALLBACKS:
            cost = 1000 * (min(times[name]) - min(times["plain"])) / STEPS
            middle = medians({"plain": times["plain"], "attached": times[name]})
            of = {"network": network, "batch": batch, "callback": name, "us_a_step": cost}
            yield of | ratio("time_ratio", times[name], times["plain"]) | middle


TEXT = "{network}, batch {batch}, {callback}: {us_a_step:.0f} us a step, ratio {time_ratio:.4f}"
BENCHMARK = Benchmark(__doc__, rows, ("rounds",), TEXT, lambda parser: None, rounds=40)
