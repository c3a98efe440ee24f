"""What an attachment costs, against the plain pipeline: a callback that does nothing, and RAAG.

    python -m scripts.benchmarks overhead --json out/overhead.json

The shapes checkpoint, and tiny networks, in which the attachment is most of the time. The ratio is the median over
rounds of all ways in turns; microseconds per step come from the fastest call of each way, which other work on the
machine disturbs least.
`ms_a_run` is what the first guided step costs once a run: to check the family that is registered, and to infer one that
is not, against an attachment that does neither.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch

from diffusion_guidance import RAAG, attach
from diffusion_guidance.attachment.families import registry
from diffusion_guidance.core.callback import Guide, Proceed
from diffusion_guidance.core.step import Step
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.shapes_measure import caption
from scripts.benchmarks.frame import Benchmark
from scripts.benchmarks.random_pipelines import BENCHES, SIZES
from scripts.benchmarks.timing import CLOCKS, interleaved, medians, ratio


STEPS = 20


def nothing(step: Step, proceed: Proceed) -> torch.Tensor:
    return proceed(step)


@contextmanager
def no_families() -> Iterator[None]:
    """Within it no family is registered, so that each run infers its own."""
    registered = list(registry._FAMILIES)
    registry._FAMILIES.clear()
    try:
        yield
    finally:
        registry._FAMILIES.extend(registered)


@dataclass(frozen=True)
class Way:
    """How to attach. Attributes: `around`, the context to do so in."""

    callback: Guide
    verify: bool = True
    around: Callable[[], AbstractContextManager] = nullcontext


WAYS = {
    "nothing": Way(nothing),
    "raag": Way(RAAG(w_max=10, alpha=8)),
    "nothing, inferred": Way(nothing, around=no_families),
    "nothing, unchecked": Way(nothing, verify=False),
}


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

        def attached(way: Way, plain: Callable = plain, pipe: object = pipe) -> None:
            with way.around(), attach(pipe, way.callback, verify=way.verify):
                plain()

        ways = {"plain": plain} | {name: partial(attached, way) for name, way in WAYS.items()}
        for way in ways.values():
            way()
        times = interleaved(ways, args.rounds, args.clock)
        for name in WAYS:
            cost = 1000 * (min(times[name]) - min(times["plain"])) / STEPS
            once = (
                min(times[name]) - min(times["nothing, unchecked"])
                if name in ("nothing", "nothing, inferred")
                else None
            )
            middle = medians({"plain": times["plain"], "attached": times[name]})
            of = {"network": network, "batch": batch, "callback": name, "us_a_step": cost, "ms_a_run": once}
            yield of | ratio("time_ratio", times[name], times["plain"]) | middle


TEXT = "{network}, batch {batch}, {callback}: {us_a_step:.0f} us a step, ratio {time_ratio:.4f}"


def options(parser: argparse.ArgumentParser) -> None:
    text = "cpu: the time that this process ran, which a busy machine disturbs least (default: %(default)s)"
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help=text)


BENCHMARK = Benchmark(__doc__, rows, ("rounds", "clock"), TEXT, options, rounds=40)
