"""The help of every command, which loads nothing slow, so that it is there at once."""

import subprocess
import sys

from diffusion_guidance.cli.command import COMMANDS


#: What --help never loads: torch, whatever loads torch, and what only work needs.
SLOW = (
    *("accelerate", "diffusers", "gradio", "matplotlib", "numpy", "PIL"),
    *("safetensors", "sklearn", "torch", "transformers"),
)


def test_help_of_every_command_loads_nothing_slow():
    calls = [[], ["--help"], *([name, "--help"] for name in COMMANDS)]
    calls += [["evaluate", name, "--help"] for name in ("run", "sweep", "score")]
    calls += [["detect", name, "--help"] for name in ("calibrate", "score")]
    code = f"""
import sys
from diffusion_guidance.cli.command import main
for call in {calls}:
    assert main(call) == 0, call
    loaded = {set(SLOW)} & set(sys.modules)
    assert not loaded, (call, loaded)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    assert all(f"usage: diffusion-guidance {' '.join(call[:-1])}" in result.stdout for call in calls[2:])
