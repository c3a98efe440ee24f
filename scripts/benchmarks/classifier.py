"""What does `ClassifierGuidance` add to a call, without its classifier and with it?

    python -m scripts.benchmarks classifier --json out/classifier.json     # about a minute on two cores

Each pipeline runs plainly; guided by logits that are linear in the estimate, one matrix product, whose backward pass
costs next to nothing, so the rest is the callback's own cost; and, for digits, guided by the classifier that ships.
The shapes pipeline works in latents, which that linear classifier takes directly: nothing is decoded. The networks are
small, so the fixed cost is a smaller share for a real one; `callback_us_a_step` is that fixed cost per step.
"""

import argparse
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from diffusion_guidance import ClassifierGuidance, Reading, Strength, attach
from diffusion_guidance.methods.classifier.strength import SCHEDULES
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.digits_classifier import DigitsClassifier
from diffusion_guidance.worlds.shapes_measure import caption
from scripts.benchmarks.frame import Benchmark
from scripts.benchmarks.timing import interleaved, medians, ratio


def digits(assets: Path, batch: int, steps: int) -> tuple[object, Callable[[], torch.Tensor], torch.nn.Module]:
    """The pipeline, one call of it, and the classifier that ships for it."""
    pipe = load_pipeline(str(assets / "digits"))
    labels = [seed % 10 for seed in range(batch)]

    def call() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        settings = {"guidance_scale": 1.0, "num_inference_steps": steps, "output_type": "latent"}
        return pipe(labels, generator=generator, **settings).images

    return pipe, call, DigitsClassifier.from_pretrained(assets / "digits-classifier").eval()


def shapes(assets: Path, batch: int, steps: int) -> tuple[object, Callable[[], torch.Tensor], None]:
    """As `digits`, without a classifier."""
    pipe = load_pipeline(str(assets / "shapes"))
    prompts = [caption(seed) for seed in range(batch)]

    def call() -> torch.Tensor:
        generator = torch.Generator().manual_seed(0)
        settings = {"num_inference_steps": steps, "output_type": "latent", "max_sequence_length": 1}
        return pipe(prompts, generator=generator, **settings).images

    return pipe, call, None


WORLDS = {"digits": digits, "shapes": shapes}


def linear(shape: torch.Size) -> Callable[[torch.Tensor], torch.Tensor]:
    """Logits of ten classes, linear in (B, *shape)."""
    weights = torch.randn(shape.numel(), 10, generator=torch.Generator().manual_seed(0)) / shape.numel() ** 0.5
    return lambda x: x.flatten(1) @ weights


def measure(world: str, batch: int, schedule: str, args: argparse.Namespace) -> dict:
    """One row: the time ratio to the plain call, of the callback alone and with the classifier."""
    pipe, call, classifier = WORLDS[world](args.assets, batch, args.steps)
    labels = [seed % 10 for seed in range(batch)]
    shared = {"strength": Strength(schedule), "labels": labels, "chunk": batch}
    free = ClassifierGuidance(
        linear(call().shape[1:]),
        reading=Reading(softplus=0),
        decoder=None if classifier else lambda latents: latents,
        **shared,
    )
    guides = {"callback": free} | ({"classifier": ClassifierGuidance(classifier, **shared)} if classifier else {})

    def guided(guide: ClassifierGuidance) -> torch.Tensor:
        with attach(pipe, guide):
            return call()

    ways = {"plain": call} | {name: lambda guide=guide: guided(guide) for name, guide in guides.items()}
    times = interleaved(ways, args.rounds)
    row = {"world": world, "batch": batch, "schedule": schedule}
    for name in guides:
        row |= ratio(f"{name}_ratio", times[name], times["plain"])
    found = medians(times)
    return row | found | {"callback_us_a_step": 1000 * (found["callback_ms"] - found["plain_ms"]) / args.steps}


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for world, batch, schedule in itertools.product(args.worlds, args.batches, args.schedules):
        yield measure(world, batch, schedule, args)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=list(WORLDS), help="default: both")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64], help="images a call (default 1 8 64)")
    parser.add_argument("--schedules", nargs="+", choices=SCHEDULES, default=["x0"], help="default: x0")
    parser.add_argument("--steps", type=int, default=10, help="of the sampler, in a call (default 10)")


TEXT = "{world}, {batch} at once, {schedule}: callback alone {callback_ratio:.3f}, {callback_us_a_step:.0f} us a step"
BENCHMARK = Benchmark(__doc__, rows, ("steps", "rounds"), TEXT, options, rounds=20)
