"""The command `diffusion-guidance`: one name for each thing to do, each in a module of its own."""

import importlib
import sys


COMMANDS = {
    "generate": "draw images with any pipeline and any guidance",
    "evaluate": "FID runs: sample and score, compare sets of images, sweep over settings",
    "calibrate": "calibration of a classifier along trajectories, and its temperatures",
    "detect": "real or generated: calibrate on real images, score files and folders",
    "demo": "draw with the shipped checkpoints",
}


def usage() -> str:
    listed = "\n".join(f"  {name:<12}{what}" for name, what in COMMANDS.items())
    return f"usage: diffusion-guidance COMMAND ...\n\n{listed}\n\ndiffusion-guidance COMMAND --help explains each."


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name in ("-h", "--help"):
        print(usage())
        return
    if name not in COMMANDS:
        print(f"diffusion-guidance: unknown command {name!r}\n\n{usage()}", file=sys.stderr)
        sys.exit(2)
    sys.argv = [f"diffusion-guidance {name}", *sys.argv[2:]]
    importlib.import_module(f".{name}", __package__).main()
