"""Pictures from seeds: one random generator a seed, files named by seed, existing ones skipped."""

import platform
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from ..attachment.attach import attach
from ..core.files import write_atomic, write_json
from ..core.json_files import read_json


@dataclass(frozen=True)
class Job:
    """One job to draw: `condition` is a prompt, or a class id where the pipeline takes `class_labels`."""

    seed: int
    condition: str | int
    path: Path


def plan(conditions: Sequence[str | int], seeds: Sequence[int], folder: Path, pair: bool = False) -> list[Job]:
    """Every condition with every seed; with `pair`, the seed at position k takes condition k modulo their number.

    Files are SEED.png, in a folder for each condition (000, 001, ...) where a seed is used more than once.
    """
    if pair or len(conditions) == 1:
        return [Job(seed, conditions[k % len(conditions)], folder / f"{seed:06d}.png") for k, seed in enumerate(seeds)]
    return [
        Job(seed, condition, folder / f"{number:03d}" / f"{seed:06d}.png")
        for number, condition in enumerate(conditions)
        for seed in seeds
    ]


def generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """One generator a seed, on the CPU, so that a seed means the same noise on every device and in every batch."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def sample(pipe, conditions: Sequence[str | int], seeds: Sequence[int], guidance: Sequence, **call):
    """Call `pipe` once: every prompt or class id with the generator of its seed.

    Returns:
        What the pipeline returned, and the network evaluations a job; a conditional and an unconditional pass
        count as one.
    """
    name = "class_labels" if isinstance(conditions[0], int) else "prompt"
    with attach(pipe, guidance) if guidance else nullcontext() as attachment:
        output = pipe(**{name: list(conditions)}, generator=generators(seeds), **call)
        evaluations = len(pipe.scheduler.timesteps) + (attachment.evaluations if guidance else 0)
    return output, evaluations


def generate(pipe, jobs: Sequence[Job], guidance: Sequence, batch_size: int = 8, **call) -> Iterator[Path]:
    """Draw those `jobs` whose file is missing, and yield each path when its file is whole.

    A job depends on its seed and condition, not on the batch (but for rounding: kernels sum in an order that can
    depend on the batch's size). A killed run that is started again draws the rest.
    """
    missing = [job for job in jobs if not job.path.exists()]
    with tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="job") as progress:
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            conditions, numbers = zip(*((job.condition, job.seed) for job in batch), strict=True)
            output, _ = sample(pipe, conditions, numbers, guidance, output_type="pil", **call)
            for job, image in zip(batch, output.images, strict=True):
                write_atomic(job.path, image.save)
                progress.update()
                yield job.path


def keep_settings(folder: Path, settings: dict) -> None:
    """Write `settings` and the versions in use to `folder`/settings.json, or check that they are the same.

    Raises:
        ValueError: the folder holds jobs of other settings, and the message names those that differ; or the file
            is damaged.
    """
    path = folder / "settings.json"
    if path.exists():
        try:
            before = read_json(path)
        except ValueError as error:
            raise ValueError(f"cannot read {path}: {error}; choose another folder") from None
        if not isinstance(before, dict):
            raise ValueError(f"{path} is not a file of settings; choose another folder")
        differing = sorted(name for name in settings if before.get(name) != settings[name])
        if differing:
            raise ValueError(
                f"{folder} holds jobs made with another {', '.join(differing)} (see {path}); choose another folder"
            )
        return
    write_json(path, settings | {"versions": versions()})


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    import diffusers
    import transformers

    from .. import __version__

    return {
        "guidance": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
    }
