"""What is to be drawn: one prompt and seed with two lists of callbacks; and the code that draws exactly that."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.callback import Callback
from .fields import changed


NAMES = ("a", "b")  # of the two columns, and of what the code writes
HIGHEST = 2**63 - 1  # what torch takes as a seed
MOST = 1000  # steps


@dataclass(frozen=True)
class Checkpoint:
    """The pipeline as it was named, in which number format and where, with further arguments of its call."""

    name: str
    dtype: str = "float32"
    device: str | None = None
    call: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Request:
    """Two images of the same prompt (or class id), seed and steps, each with its own callbacks.

    Raises:
        ValueError: no prompt, or a number out of range.
    """

    checkpoint: Checkpoint
    condition: str | int
    seed: int
    steps: int
    weight: float | None  # the pipeline's own guidance_scale; None leaves its default
    guidance: Sequence[Sequence[Callback]]

    def __post_init__(self) -> None:
        if self.condition == "":
            raise ValueError("write a prompt first")
        _whole("seed", self.seed, 0, HIGHEST)
        _whole("steps", self.steps, 1, MOST)

    def call(self) -> dict[str, Any]:
        """Arguments of the pipeline's call, except for prompt and generator."""
        weight = {} if self.weight is None else {"guidance_scale": self.weight}
        return {"num_inference_steps": self.steps, **weight, **(self.checkpoint.call or {})}

    def python(self) -> str:
        """A program that draws both images, a.png and b.png."""
        kinds = sorted({type(callback).__name__ for column in self.guidance for callback in column})
        made = ", ".join(f'"{name}": [{", ".join(map(_written, column))}]' for name, column in self._columns())
        condition = "prompt" if isinstance(self.condition, str) else "class_labels"
        call = {condition: self.condition if condition == "prompt" else [self.condition], **self.call()}
        given = "".join(f"        {name}={value!r},\n" for name, value in call.items())
        loaded = repr(self.checkpoint.name)
        loaded += "" if self.checkpoint.dtype == "float32" else f", dtype={self.checkpoint.dtype!r}"
        loaded += "" if self.checkpoint.device is None else f", device={self.checkpoint.device!r}"
        return (
            f"import torch\nfrom diffusion_guidance import {', '.join([*kinds, 'attach', 'load_pipeline'])}\n\n"
            f"pipe = load_pipeline({loaded})\n\n\n"
            f"def draw():\n    return pipe(\n{given}"
            f"        generator=torch.Generator().manual_seed({self.seed}),\n    ).images[0]\n\n\n"
            f"for name, guidance in {{{made}}}.items():\n"
            '    with attach(pipe, guidance):\n        draw().save(f"{name}.png")\n'
        )

    def command(self) -> str:
        """Two commands of a shell that draw them, as `SEED.png` in the folders out/a and out/b."""
        what = "--prompt" if isinstance(self.condition, str) else "--classes"
        shared = ["diffusion-guidance", "generate", self.checkpoint.name, what, str(self.condition)]
        shared += ["--seeds", str(self.seed), "--steps", str(self.steps)]
        shared += [] if self.weight is None else ["--weight", repr(self.weight)]
        shared += [] if self.checkpoint.dtype == "float32" else ["--dtype", self.checkpoint.dtype]
        shared += [] if self.checkpoint.device is None else ["--device", self.checkpoint.device]
        for name, value in (self.checkpoint.call or {}).items():
            shared += ["--call", f"{name}={_value(value)}"]
        lines = []
        for name, column in self._columns():
            own = [word for callback in column for word in ("--guidance", short_form(callback))]
            lines.append(shlex.join([*shared, *own, "--out", f"out/{name}"]))
        return "\n".join(lines) + "\n"

    def titles(self) -> list[str]:
        """The two methods in short, for a legend."""
        return [" ".join(map(short_form, column)) or "the pipeline's own guidance" for column in self.guidance]

    def _columns(self) -> list[tuple[str, Sequence[Callback]]]:
        return list(zip(NAMES, self.guidance, strict=True))


def short_form(callback: Callback) -> str:
    """`raag:w_max=5.0,alpha=2.0`: with the settings that are not the defaults, as `parse_guidance` reads it."""
    given = ",".join(f"{name}={_value(value)}" for name, value in changed(callback).items())
    name = type(callback).__name__.lower()
    return f"{name}:{given}" if given else name


def _written(callback: Callback) -> str:
    given = ", ".join(f"{name}={value!r}" for name, value in changed(callback).items())
    return f"{type(callback).__name__}({given})"


def _value(value: Any) -> str:
    return json.dumps(value)


def _whole(name: str, value: Any, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}, got {value!r}")
