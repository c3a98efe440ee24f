"""Options that commands share, each written once: how they are given, and what they mean.

Each group is a frozen value: `add` puts its options on a parser, `of` takes what was parsed, and its methods do the
slow part. The module itself imports nothing slow, so that --help is instant.
"""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import at_least, number, parse_call, parse_classes, parse_ids, read_prompts
from .parser import kind, path


if TYPE_CHECKING:
    from argparse import _MutuallyExclusiveGroup

    from diffusers import DiffusionPipeline

    from ..core.callback import Callback

DTYPES = ("float32", "bfloat16", "float16")


def add_seeds(parser: ArgumentParser, default: str | None = None) -> None:
    text = f"such as 0-63 or 0-9,20{f' (default {default})' if default else ''}"
    parser.add_argument("--seeds", type=kind(parse_ids), required=default is None, default=default, help=text)


def add_batch_size(parser: ArgumentParser, default: int, what: str = "images at once") -> None:
    text = f"{what}; does not change them (default {default})"
    parser.add_argument("--batch-size", type=kind(at_least(1)), default=default, metavar="N", help=text)


def add_device(parser: ArgumentParser) -> None:
    parser.add_argument("--device", help="such as cpu or cuda:1 (default: cuda where there is one, else cpu)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights (default float32)")


def find_device(name: str | None) -> str:
    """The device to use: `name`, or CUDA where there is one, else the CPU. Raises ValueError if it cannot be used."""
    import torch

    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        (torch.zeros(1, device=name) + 1).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch raises any of them
        raise ValueError(f"--device {name} cannot be used here: {str(error).splitlines()[0]}") from None
    return name


@dataclass(frozen=True)
class Model:
    """Which pipeline, in which number format, and where."""

    name: str
    dtype: str
    device: str | None
    trust_guidance: bool

    @staticmethod
    def add(parser: ArgumentParser, default: str | None = None) -> None:
        text = "directory or hub id of a diffusers pipeline; assets/shapes and assets/digits ship"
        if default:
            parser.add_argument("pipeline", nargs="?", default=default, help=f"{text} (default {default})")
        else:
            parser.add_argument("pipeline", help=text)
        add_device(parser)
        trust = "also load a guidance.json of the checkpoint that names files, networks or libraries"
        parser.add_argument("--trust-guidance", action="store_true", help=trust)

    @classmethod
    def of(cls, args: Namespace) -> "Model":
        return cls(args.pipeline, args.dtype, args.device, args.trust_guidance)

    def load(self, device: str | None = None) -> "DiffusionPipeline":
        from diffusers.utils.logging import disable_progress_bar
        from transformers.utils.logging import disable_progress_bar as disable_progress_bar_of_weights

        from ..pipelines.loading import load_pipeline

        disable_progress_bar()
        disable_progress_bar_of_weights()
        return load_pipeline(self.name, self.dtype, device or find_device(self.device), self.trust_guidance)


@dataclass(frozen=True)
class Asked:
    """What is to be drawn: prompts, or class ids."""

    conditions: Sequence[str | int]  # none where nothing was asked for

    @staticmethod
    def add(parser: ArgumentParser, required: bool = True, one: bool = True) -> "_MutuallyExclusiveGroup":
        """The group of options that exclude each other. With `one`, prompts can also be given one by one."""
        what = parser.add_mutually_exclusive_group(required=required)
        if one:
            text = "may be given several times: each is drawn with every seed"
            what.add_argument("--prompt", action="append", metavar="TEXT", help=text)
        what.add_argument("--prompts", type=path, metavar="FILE", help="a text file, one prompt per line")
        what.add_argument(
            "--classes", type=kind(parse_classes), metavar="IDS", help="class ids, such as 207,360 or 0-999"
        )
        return what

    @classmethod
    def of(cls, args: Namespace) -> "Asked":
        if args.classes is not None:
            return cls(args.classes)
        if prompts := getattr(args, "prompt", None):
            return cls(prompts)
        return cls(read_prompts(args.prompts) if args.prompts else ())


@dataclass(frozen=True)
class Guided:
    """Which callbacks, in order; none for the pipeline's own guidance."""

    texts: Sequence[str]
    file: Path | None

    @staticmethod
    def add(parser: ArgumentParser) -> None:
        how = parser.add_mutually_exclusive_group()
        text = "may be repeated; the first is nearest to the network"
        how.add_argument("--guidance", action="append", default=[], metavar="NAME:ARGUMENT=VALUE,...", help=text)
        text = "JSON, as diffusion_guidance.save_guidance writes it"
        how.add_argument("--guidance-file", type=path, metavar="FILE", help=text)

    @classmethod
    def of(cls, args: Namespace) -> "Guided":
        return cls(args.guidance, args.guidance_file)

    def callbacks(self) -> "list[Callback]":
        from .guidance import load, parse

        return load(self.file) if self.file else [parse(text) for text in self.texts]


@dataclass(frozen=True)
class Call:
    """Arguments of the pipeline's call."""

    steps: int
    weight: float | None
    more: dict[str, object]

    @staticmethod
    def add(parser: ArgumentParser, steps: int = 30, one: bool = True) -> None:
        """Without `one` there are lists of steps and weights, which the command adds itself."""
        if one:
            text = f"denoising steps (default {steps})"
            parser.add_argument("--steps", type=kind(at_least(1)), default=steps, metavar="N", help=text)
            text = "the pipeline's own guidance_scale; above 1 it switches the unconditional pass on"
            parser.add_argument("--weight", type=kind(number), metavar="W", help=text)
        text = "more for the pipeline's call; VALUE is JSON or text"
        parser.add_argument("--call", action="append", default=[], metavar="NAME=VALUE", help=text)

    @classmethod
    def of(cls, args: Namespace) -> "Call":
        return cls(args.steps, args.weight, parse_call(args.call))

    def arguments(self) -> dict[str, object]:
        weight = {} if self.weight is None else {"guidance_scale": self.weight}
        return {"num_inference_steps": self.steps, **weight, **self.more}
