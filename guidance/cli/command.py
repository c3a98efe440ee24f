"""The command `diffusion-guidance`: one name for each thing to do, each in a module of its own.

A module has `parser(prog)` and `run(args)`, which returns an exit code or None; it imports nothing slow until it runs.
"""

import importlib
import sys
from collections.abc import Sequence

from ..core.extras import naming_the_extra
from .failures import BadInputError, guarded


COMMANDS = {
    "generate": "draw images with any pipeline and any guidance",
    "verify": "draw an image again, and check that it matches its record",
    "evaluate": "FID runs: sample and score, compare sets of images, sweep over settings",
    "calibrate": "calibration of a classifier along trajectories, and its temperatures",
    "detect": "real or generated: calibrate on real images, score files, measure the detector",
    "fit": "settings of RAAG for a model, from a few runs of its own pipeline",
    "describe": "show what attaching to a pipeline finds in it",
    "play": "a page to play on: two methods next to each other",
    "demo": "draw with the shipped checkpoints",
}
EXTRAS = {
    "evaluate": "evaluation",
    "calibrate": "evaluation",
    "detect": "detection",
    "demo": "demo",
    "fit": "plots",
    "play": "play",
}
NAME = "diffusion-guidance"


def usage() -> str:
    listed = "\n".join(f"  {name:<12}{what}" for name, what in COMMANDS.items())
    return f"usage: {NAME} COMMAND ...\n\n{listed}\n\n{NAME} COMMAND --help explains each."


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command of `argv` (default: this process's arguments) and return its exit code; see `failures`."""
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    return guarded(f"{NAME} {name}" if name in COMMANDS else NAME, lambda: _run(name, rest))


def _run(name: str, rest: Sequence[str]) -> int | None:
    if name in ("-h", "--help"):
        print(usage())
        return None
    if name == "--version":
        from ..core.version import __version__

        print(f"{NAME} {__version__}")
        return None
    if name not in COMMANDS:
        raise BadInputError(f"unknown command {name!r}; there are {', '.join(COMMANDS)}")
    command = importlib.import_module(f".{name}", __package__)
    try:
        args = command.parser(f"{NAME} {name}").parse_args(rest)
    except SystemExit:  # after --help
        return 0
    with naming_the_extra(EXTRAS.get(name)):
        return command.run(args)
