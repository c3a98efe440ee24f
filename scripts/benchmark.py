"""Costs in ratios, each pair measured in one run, interleaved, so that a noisy machine disturbs both sides alike.

    python scripts/benchmark.py overhead --json out/overhead.json       # an attachment against the plain pipeline
    python scripts/benchmark.py families --json out/families.json       # the same for many families, and modular
    python scripts/benchmark.py evaluation --json out/evaluation.json   # Frechet distance against other libraries
    python scripts/benchmark.py rigid --json out/rigid.json             # RIGID against its published computation
    python scripts/benchmark.py classifier --json out/classifier.json   # ClassifierGuidance without its classifier

`python scripts/benchmark.py NAME --help` tells the arguments of each.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import benchmark_classifier
import benchmark_evaluation
import benchmark_families
import benchmark_rigid
import torch
from timing import interleaved, machine, medians, ratio

from guidance import RAAG, attach
from guidance.evaluation import describe_run, write_report
from guidance.generation import load_pipeline
from guidance.worlds.shapes_measure import caption


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
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    BENCHMARKS[parser.parse_args(sys.argv[1:2]).benchmark](sys.argv[2:])


if __name__ == "__main__":
    main()
