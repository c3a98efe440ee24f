"""Costs in ratios, each pair measured in one run, interleaved, so that a noisy machine disturbs both sides alike.

    python -m scripts.benchmarks overhead --json out/overhead.json       # an attachment against the plain pipeline
    python -m scripts.benchmarks first_step --json out/first_step.json   # to infer a family, to check it
    python -m scripts.benchmarks skipped --json out/skipped.json         # unread passes are not run
    python -m scripts.benchmarks threads --json out/threads.json         # one network in many threads: all equal
    python -m scripts.benchmarks families --json out/families.json       # the same for many families, and modular
    python -m scripts.benchmarks evaluation --json out/evaluation.json   # Frechet distance against other libraries
    python -m scripts.benchmarks rigid --json out/rigid.json             # RIGID against its published computation
    python -m scripts.benchmarks classifier --json out/classifier.json   # ClassifierGuidance without its classifier
    python -m scripts.benchmarks trust --json out/trust.json             # checksums and locks of a run

`python -m scripts.benchmarks NAME --help` tells the arguments of each.
"""

import argparse
import sys

from scripts.benchmarks import classifier, evaluation, families, first_step, overhead, rigid, skipped, threads, trust


BENCHMARKS = {
    "overhead": overhead.BENCHMARK.main,
    "first_step": first_step.BENCHMARK.main,
    "skipped": skipped.BENCHMARK.main,
    "families": families.BENCHMARK.main,
    "evaluation": evaluation.BENCHMARK.main,
    "rigid": rigid.BENCHMARK.main,
    "classifier": classifier.BENCHMARK.main,
    "threads": threads.BENCHMARK.main,
    "trust": trust.BENCHMARK.main,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    BENCHMARKS[parser.parse_args(sys.argv[1:2]).benchmark](sys.argv[2:])


if __name__ == "__main__":
    main()
