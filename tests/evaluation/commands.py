"""Whole commands in processes of their own, started from one that has imported everything, so that many are quick."""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path


CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([f"{__package__}.preloaded"])


def command(arguments: Sequence[str], errors: Path, together=None) -> None:
    """Run `diffusion-guidance ARGUMENTS`; what it prints goes to the file `errors`. Exits as the command does."""
    import torch

    from diffusion_guidance.cli.command import main

    torch.set_num_threads(1)
    with open(errors, "w") as file:
        os.dup2(file.fileno(), 1), os.dup2(file.fileno(), 2)
    sys.argv = ["diffusion-guidance", *arguments]
    if together is not None:
        together.wait(60)
    sys.exit(main())


def start(arguments: Sequence, errors: Path, together=None) -> multiprocessing.Process:
    process = CONTEXT.Process(target=command, args=([str(part) for part in arguments], errors, together))
    process.start()
    return process


def finish(process: multiprocessing.Process, seconds: float = 120) -> int | None:
    """Wait for a process, but not forever: its exit code, None where it was stopped because it took too long."""
    process.join(seconds)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    return code


def both(arguments: Sequence, folder: Path) -> list[tuple[int | None, str]]:
    """Two of the same command, started together: exit code and output of each."""
    together = CONTEXT.Barrier(2)
    outputs = [folder / f"output-{number}" for number in range(2)]
    processes = [start(arguments, output, together) for output in outputs]
    codes = [finish(process) for process in processes]
    return [(code, output.read_text()) for code, output in zip(codes, outputs, strict=True)]
