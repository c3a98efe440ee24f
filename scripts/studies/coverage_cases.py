"""Tiny random instances of pipeline classes, and how each is called."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import diffusers
import torch
from diffusers.guiders import ClassifierFreeGuidance

from tests.tiny_families import FAMILIES, VARIANTS, Tiny

from . import coverage_siblings, coverage_upstream


_WEIGHT = 4.5


@dataclass(frozen=True)
class Case:
    """A pipeline, and how it is called: `call()` gives the arguments, the same every time."""

    pipe: diffusers.DiffusionPipeline
    call: Callable[[], dict]


def tiny_of(name: str) -> Tiny | None:
    """The suite's own instance of class `name`."""
    return next((tiny for tiny in FAMILIES + VARIANTS if type(tiny.pipe()).__name__ == name), None)


def own_case(tiny: Tiny) -> Case:
    def call() -> dict:
        generator = torch.Generator().manual_seed(1)
        fixed = {"num_inference_steps": 3, "generator": generator, "output_type": tiny.output}
        return tiny.inputs() | tiny.scale | fixed

    return Case(tiny.pipe(), call)


def upstream_case(checkout: Path, module: str, name: str) -> Case:
    """The dummy pipeline of class `name` of the tests in `module`.

    Raises:
        LookupError: the module has none.
    """
    return sibling_case(checkout, module, name, getattr(diffusers, name))


def sibling_case(checkout: Path, module: str, name: str, kind: type) -> Case:
    """A pipeline of class `kind` from the dummy components that the tests in `module` have of class `name`.

    Raises:
        LookupError: the module has none, or there is nothing for an argument of `kind`.
    """
    test = coverage_upstream.dummy(checkout, module, name)
    torch.manual_seed(0)
    pipe = prepared(kind(**coverage_siblings.components(kind, test.get_dummy_components())))
    return Case(pipe, partial(arguments, pipe, test))


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
    given = coverage_siblings.inputs(type(pipe).__call__, given)
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
