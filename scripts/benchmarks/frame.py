"""What all benchmarks share: a command line, rows that are printed as they are measured, and a report of them."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from diffusion_guidance.evaluation import describe_run, write_report
from scripts.benchmarks.timing import machine


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        description: for the help.
        rows: measures them, one after another.
        facts: names of the options that the report records.
        text: of a row, for the screen; it is a format.
        options: adds further options.
        rounds: how many by default, of each comparison; None without rounds.
    """

    description: str
    rows: Callable[[argparse.Namespace], Iterator[dict]]
    facts: Sequence[str]
    text: str
    options: Callable[[argparse.ArgumentParser], object]
    rounds: int | None = None

    def main(self, arguments: Sequence[str] | None = None) -> None:
        parser = argparse.ArgumentParser(
            description=self.description, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, again after each row")
        if self.rounds:
            text = f"rounds, each with every way (default {self.rounds}; at least 2)"
            parser.add_argument("--rounds", type=int, default=self.rounds, metavar="N", help=text)
        parser.add_argument("--assets", type=Path, default=Path("assets"))
        self.options(parser)
        args = parser.parse_args(arguments)
        if self.rounds and args.rounds < 2:
            parser.error("--rounds must be at least 2")
        meta, rows = describe_run(**{name: getattr(args, name) for name in self.facts}, **machine()), []
        for row in self.rows(args):
            rows.append(row)
            print(self.text.format(**row), flush=True)
            if args.json:
                write_report(args.json, meta, rows)
