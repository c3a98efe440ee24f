"""Make the results in docs/results again, each by its own command, and then the tables of the documents.

python -m scripts.studies                    # every study; a killed one resumes where it stopped
python -m scripts.studies --benchmarks       # every benchmark, on a quiet machine
python -m scripts.studies --only raag elucd
python -m scripts.studies --list             # what makes what
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.studies.study import ROOT
from scripts.studies.tables import STUDIES


RESULTS = "docs/results"


@dataclass(frozen=True)
class Command:
    """What makes some of the reports in docs/results.

    Attributes:
        results: names of the reports, without `.json`.
        module: what `python -m` runs.
        arguments: of its command line. `$NAME` is taken from the environment: the command is left out without it.
        benchmark: whether it measures time, which a busy machine disturbs.
    """

    results: tuple[str, ...]
    module: str
    arguments: tuple[str, ...] = ()
    benchmark: bool = False

    def line(self) -> list[str]:
        """The command line, from the root."""
        return [sys.executable, "-m", self.module, *(os.path.expandvars(part) for part in self.arguments)]

    def missing(self) -> str | None:
        """The variable of the environment that it lacks."""
        names = [part.removeprefix("$") for part in self.arguments if part.startswith("$")]
        return next((name for name in names if name not in os.environ), None)


def _benchmark(result: str, name: str, *arguments: str) -> Command:
    arguments = (name, *arguments, "--json", f"{RESULTS}/{result}.json")
    return Command((result,), "scripts.benchmarks", arguments, benchmark=True)


COMMANDS = (
    Command(("calibration",), "diffusion_guidance", ("calibrate", "--out", f"{RESULTS}/calibration.json")),
    Command(("upstream",), "scripts.studies.upstream_tests", ("$DIFFUSERS", "--json", f"{RESULTS}/upstream.json")),
    Command(("coverage",), "scripts.studies.coverage", ("--diffusers-tests", "$DIFFUSERS")),
    Command(("coverage-check",), "scripts.studies.coverage_alarms", ("--diffusers-tests", "$DIFFUSERS")),
    # The last one needs rendered images, and fails without them.
    *(Command(study.results(), f"scripts.studies.{name}") for name, study in STUDIES.items()),
    _benchmark("overhead", "overhead"),
    _benchmark("first_step", "first_step"),
    _benchmark("skipped", "skipped"),
    _benchmark("threads", "threads"),
    _benchmark("benchmark_families", "families"),
    _benchmark("benchmark_evaluation", "evaluation"),
    _benchmark("benchmark_rigid", "rigid", "--rounds", "5", "--images", "8", "--batch", "8"),
    _benchmark("benchmark_classifier", "classifier", "--batches", "1", "8"),
    _benchmark("benchmark_trust", "trust"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--benchmarks", action="store_true", help="the benchmarks instead of the studies")
    names = [name for command in COMMANDS for name in command.results]
    parser.add_argument("--only", nargs="+", choices=names, metavar="RESULT", help=f"of {', '.join(names)}")
    parser.add_argument("--list", action="store_true", help="print the commands, and run nothing")
    args = parser.parse_args(arguments)
    for command in COMMANDS:
        wanted = set(args.only) & set(command.results) if args.only else command.benchmark == args.benchmarks
        if args.list:
            print(f"{', '.join(command.results)}: python -m {' '.join((command.module, *command.arguments))}")
        elif wanted and (name := command.missing()):
            print(f"{', '.join(command.results)}: left out, since {name} is not set; see {command.module}")
        elif wanted:
            subprocess.run(command.line(), cwd=ROOT, check=True)
    if not args.list:
        subprocess.run([sys.executable, "-m", "scripts.studies.tables"], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
