"""What the first guided step of a run costs, once: to infer the family, to check it, and to look at what hooks keep.

    python -m scripts.benchmarks first_step --json out/first_step.json

Of one step that the pipeline made, as an attachment sees it. Inference is checked too, as in a run; both contain their
one read of the device. The fastest of all rounds, and their median.
"""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch

from diffusion_guidance.attachment.establish import establish
from diffusion_guidance.attachment.families import find_family, registry
from diffusion_guidance.attachment.snapshot import OTHERS, snapshot
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.shapes_measure import caption
from scripts.benchmarks.frame import Benchmark
from scripts.benchmarks.random_pipelines import BENCHES, SIZES
from scripts.benchmarks.timing import interleaved, medians
from tests.attachment.seen import scaling, seen


@contextmanager
def no_families() -> Iterator[None]:
    """Within it no family is registered."""
    registered = list(registry._FAMILIES)
    registry._FAMILIES.clear()
    try:
        yield
    finally:
        registry._FAMILIES.extend(registered)


def calls(args: argparse.Namespace) -> Iterator[tuple[str, object, Callable[[], object]]]:
    """(network, pipeline, its call) of what is timed."""
    options = {"num_inference_steps": 2, "output_type": "latent"}
    shapes, prompts = load_pipeline(str(args.assets / "shapes")), [caption(seed) for seed in range(8)]
    yield "shapes, batch 8", shapes, partial(shapes, prompts, max_sequence_length=1, **options)
    for name in ("StableDiffusion3", "StableDiffusionXL", "Flux", "Wan"):
        torch.manual_seed(0)
        pipe = BENCHES[name].build(SIZES["tiny"])
        yield f"{name}, tiny", pipe, partial(pipe, **BENCHES[name].inputs(SIZES["tiny"]) | options)


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for network, pipe, call in calls(args):
        pipe.set_progress_bar_config(disable=True)
        step = seen(pipe, call)
        family, scaled, module = find_family(pipe), scaling(step), step.calls[0].module

        def infer(step: object = step, scaled: Callable = scaled) -> None:
            with no_families():
                establish(step, None, scaled)

        ways = {"infer": infer, "check": partial(establish, step, family, scaled)}
        ways["hooks"] = partial(snapshot, module, OTHERS)
        times = interleaved(ways, args.rounds)
        fastest = {f"{name}_ms": min(values) for name, values in times.items()}
        middle = medians({f"{name}_median": values for name, values in times.items()})
        yield {"network": network, "values": step.sample.numel()} | fastest | middle


TEXT = "{network}: {infer_ms:.2f} ms to infer, {check_ms:.2f} ms to check, {hooks_ms:.2f} ms to look at hooks"
BENCHMARK = Benchmark(__doc__, rows, ("rounds",), TEXT, lambda parser: None, rounds=200)
