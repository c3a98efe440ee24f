"""Costs in ratios, each pair measured in one run, interleaved, so that a noisy machine disturbs both sides alike.

    python -m scripts.benchmarks overhead --json out/overhead.json       # an attachment against the plain pipeline
    python -m scripts.benchmarks families --json out/families.json       # the same for many families, and modular
    python -m scripts.benchmarks evaluation --json out/evaluation.json   # Frechet distance against other libraries
    python -m scripts.benchmarks rigid --json out/rigid.json             # RIGID against its published computation
    python -m scripts.benchmarks classifier --json out/classifier.json   # ClassifierGuidance without its classifier
    python -m scripts.benchmarks trust --json out/trust.json             # checksums and locks of a run

`python -m scripts.benchmarks NAME --help` tells the arguments of each.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from diffusion_guidance import RAAG, attach
from diffusion_guidance.evaluation import describe_run, write_report
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.shapes_measure import caption
from scripts.benchmarks import classifier as benchmark_classifier
from scripts.benchmarks import evaluation as benchmark_evaluation
from scripts.benchmarks import families as benchmark_families
from scripts.benchmarks import rigid as benchmark_rigid
from scripts.benchmarks import trust as benchmark_trust
from scripts.benchmarks.timing import interleaved, machine, medians, ratio


def overhead(argv: list[str]) -> None:
    """The shapes pipeline as it is, against the same call with RAAG attached."""
    parser = argparse.ArgumentParser(prog="benchmark.py overhead", description=overhead.__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--pairs", type=int, default=40, help="interleaved pairs (default 40)")
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    args = parser.parse_args(argv)
    pipe = load_pipeline(str(args.assets / "shapes"))
    rows = []
    for batch in (1, 8):
        prompts = [caption(seed) for seed in range(batch)]

        def call(prompts: list[str] = prompts) -> None:
            generator = torch.Generator().manual_seed(0)
            pipe(prompts, num_inference_steps=10, generator=generator, output_type="latent", max_sequence_length=1)

        def attached(call: Callable[[], None] = call) -> None:
            with attach(pipe, RAAG(w_max=10, alpha=8)):
                call()

        call(), attached()
        times = interleaved({"plain": call, "attached": attached}, args.pairs)
        row = {"batch": batch, **ratio("time_ratio", times["attached"], times["plain"]), **medians(times)}
        rows.append(row)
        text = "batch {batch}: plain {plain_ms:.1f} ms, attached {attached_ms:.1f} ms, ratio {time_ratio:.4f}"
        print(text.format(**row))
    if args.json:
        print(write_report(args.json, describe_run(pairs=args.pairs, **machine()), rows))


BENCHMARKS = {
    "overhead": overhead,
    "families": benchmark_families.main,
    "evaluation": benchmark_evaluation.main,
    "rigid": benchmark_rigid.main,
    "classifier": benchmark_classifier.main,
    "trust": benchmark_trust.main,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    BENCHMARKS[parser.parse_args(sys.argv[1:2]).benchmark](sys.argv[2:])


if __name__ == "__main__":
    main()
