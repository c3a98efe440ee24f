"""A process that runs a command for each line of its input, a JSON list of arguments, and prints the exit code."""

import json
import sys

from diffusion_guidance.cli import detection_run  # noqa: F401 - all that is slow, before the first command
from diffusion_guidance.cli.command import main


print("ready", flush=True)
for line in sys.stdin:
    print(main(json.loads(line)), flush=True)
