"""The guided pipeline classes of the installed diffusers, and tiny random instances of them."""

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import diffusers
import torch
from diffusers.guiders import ClassifierFreeGuidance

from tests.tiny_families import FAMILIES, VARIANTS, Tiny

from . import coverage_upstream


_COMBINES = re.compile(
    r"(guidance|cfg|scale\w*|weight)\w*(\[[^\]]*\])?\)?\s*\*\s*\(|self\.guider|lerp\(|\)\s*\*\s*\w*(guidance|cfg)"
)
_WEIGHT = 4.5


@dataclass(frozen=True)
class Case:
    """A pipeline, and how it is called: `call()` gives the arguments, the same every time."""

    pipe: diffusers.DiffusionPipeline
    call: Callable[[], dict]


def guided_classes() -> dict[str, type]:
    """The classes, by name, that step a scheduler with a weighted difference of predictions; not the deprecated."""
    found = {}
    for name in dir(diffusers):
        kind = getattr(diffusers, name, None)
        if not (inspect.isclass(kind) and issubclass(kind, diffusers.DiffusionPipeline)):
            continue
        deprecated = ".deprecated." in kind.__module__ or any("Deprecated" in base.__name__ for base in kind.__mro__)
        if deprecated or kind is diffusers.DiffusionPipeline:
            continue
        source = inspect.getsource(kind)
        if ".step(" in source and _COMBINES.search(source):
            found[name] = kind
    return found


def tiny_of(name: str) -> Tiny | None:
    """The suite's own instance of class `name`."""
    return next((tiny for tiny in FAMILIES + VARIANTS if type(tiny.pipe()).__name__ == name), None)


def own_case(tiny: Tiny) -> Case:
    def call() -> dict:
        generator = torch.Generator().manual_seed(1)
        fixed = {"num_inference_steps": 3, "generator": generator, "output_type": tiny.output}
        return tiny.inputs() | tiny.scale | fixed

    return Case(tiny.pipe(), call)


def tests_by_class(checkout: Path) -> dict[str, list[str]]:
    """Modules of the tests in `checkout`, by the pipeline class that they are about."""
    found: dict[str, list[str]] = {}
    for path in sorted((checkout / "tests/pipelines").glob("*/test_*.py")):
        module = ".".join(path.relative_to(checkout).with_suffix("").parts)
        text = path.read_text(encoding="utf-8")
        for name in re.findall(r"^    pipeline_class = (\w+)", text, flags=re.M):
            if "get_dummy_components" in text and module not in found.setdefault(name, []):
                found[name].append(module)
    return found


def upstream_case(checkout: Path, module: str, name: str) -> Case:
    """The dummy pipeline of class `name` of the tests in `module`.

    Raises:
        LookupError: the module has none.
    """
    coverage_upstream.install(checkout)
    for kind in vars(importlib.import_module(module)).values():
        stock = getattr(kind, "pipeline_class", None)
        if inspect.isclass(kind) and getattr(stock, "__name__", None) == name and hasattr(kind, "get_dummy_components"):
            test = kind.__new__(kind)
            torch.manual_seed(0)
            pipe = prepared(stock(**test.get_dummy_components()))
            return Case(pipe, partial(arguments, pipe, test))
    raise LookupError(f"{module} has no dummy components of {name}")


def prepared(pipe: diffusers.DiffusionPipeline) -> diffusers.DiffusionPipeline:
    """`pipe` with networks that differ from prompt to prompt, guided where its guider would not be."""
    pipe.set_progress_bar_config(disable=True)
    if isinstance(getattr(pipe, "prompt_template_encode_start_idx", None), int):
        pipe.prompt_template_encode_start_idx = 3  # the stand-in makes shorter prompts
    guider = getattr(pipe, "guider", None)
    if guider is not None and getattr(guider, "guidance_scale", _WEIGHT) <= 1.5:
        pipe.guider = ClassifierFreeGuidance(guidance_scale=_WEIGHT)
    generator = torch.Generator().manual_seed(5)
    for network in pipe.components.values():
        if isinstance(network, torch.nn.Module):
            network.eval().requires_grad_(False)
            for parameter in network.parameters():  # zeros would make all predictions equal
                if parameter.is_floating_point() and parameter.numel() > 1 and not parameter.any():
                    parameter.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
    return pipe


def arguments(pipe: diffusers.DiffusionPipeline, test) -> dict:
    """Of the test's call, with guidance on, three steps, and latents as output where there are any."""
    try:
        given = test.get_dummy_inputs("cpu")
    except TypeError:
        given = test.get_dummy_inputs()
    known = inspect.signature(type(pipe).__call__).parameters
    for name in {"guidance_scale", "true_cfg_scale"} & set(known):
        if not (isinstance(given.get(name), (int, float)) and given[name] > 1.5):
            given[name] = _WEIGHT
    prompt = given.get("prompt")
    negative = [given.get(name) for name in ("negative_prompt", "negative_prompt_embeds")]
    if "negative_prompt" in known and prompt is not None and all(value is None for value in negative):
        given["negative_prompt"] = "bad" if isinstance(prompt, str) else ["bad"] * len(prompt)
    if "num_inference_steps" in known:
        given["num_inference_steps"] = 3
    if "output_type" in known:
        name = type(pipe).__name__
        given["output_type"] = "pt" if name.startswith("Kandinsky") and "5" not in name else "latent"
    given.pop("callback_on_step_end", None)
    return given
