"""What differs between diffusers' pipelines, held as facts: one `Family` describes all pipelines built alike."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Call:
    """One call of the denoiser, as its forward hook saw it.

    Attributes:
        module: the denoiser that was called.
        arguments: by name, positional ones too.
        output: the first element of what it returned.
    """

    module: torch.nn.Module
    arguments: dict
    output: torch.Tensor


@dataclass(frozen=True)
class Family:
    """How a kind of pipeline calls its denoiser and its scheduler.

    Attributes:
        pipelines: class names of the pipelines; subclasses belong too.
        denoiser: the pipeline's attribute that holds the network.
        sample, timestep: names of the denoiser's arguments.
        cond_first: whether the conditional half of the batch comes first. (One call of batch 2B.)
        enable: what a user sets so that the unconditional pass runs; completes "set ...".
        prediction_type: of the network, or None to take the scheduler's.
        weight: the pipeline's attribute that holds its guidance weight, or None where it is only a local variable.
        doubled: whether the scheduler's `step` receives the sample twice, as `cat([x, x])`.
        aside: names of denoiser arguments that mark a call as not belonging to classifier-free guidance.
        guided: whether a call holds both halves, where the batch sizes do not tell; asked once a run.
    """

    pipelines: tuple[str, ...]
    denoiser: str
    sample: str
    timestep: str
    enable: str
    cond_first: bool = False
    prediction_type: str | None = None
    weight: str | None = None
    doubled: bool = False
    aside: tuple[str, ...] = ()
    guided: Callable[[Call], bool] | None = None


def _dit_guided(call: Call) -> bool:
    # With guidance DiT appends one null class (1000) for each label. The labels stand on the device: this is read once
    # a run, before its first step, since neither a shape nor an attribute of the pipeline tells.
    labels = call.arguments["class_labels"]
    return len(labels) % 2 == 0 and bool((labels[len(labels) // 2 :] == 1000).all())


_FAMILIES = [
    Family(
        pipelines=("StableDiffusion3Pipeline",),
        denoiser="transformer",
        sample="hidden_states",
        timestep="timestep",
        enable="guidance_scale above 1 in the pipeline's call",
        prediction_type="flow_prediction",
        weight="guidance_scale",
        aside=("skip_layers",),
    ),
    Family(
        pipelines=("DiTPipeline",),
        denoiser="transformer",
        sample="hidden_states",
        timestep="timestep",
        enable="guidance_scale above 1 in the pipeline's call",
        cond_first=True,
        doubled=True,
        guided=_dit_guided,
    ),
]


def register_family(family: Family) -> None:
    """Teach `attach` a kind of pipeline. A family registered later wins over an earlier one of the same class name."""
    _FAMILIES.insert(0, family)


def find_family(pipe) -> Family:
    """The family of `pipe`, by the names of its class and its base classes, the nearest first.

    Raises:
        ValueError: none fits; the message lists the known ones and says how to register one.
    """
    for cls in type(pipe).__mro__:
        for family in _FAMILIES:
            if cls.__name__ in family.pipelines:
                return family
    known = sorted({name for family in _FAMILIES for name in family.pipelines})
    raise ValueError(
        f"no adapter for {type(pipe).__name__}; there are adapters for {', '.join(known)}. If its denoiser is called "
        "once a step with both halves in one batch, describe it: guidance.register_family(guidance.Family(pipelines=("
        f"{type(pipe).__name__!r},), denoiser='transformer', sample='hidden_states', timestep='timestep', "
        "enable='guidance_scale above 1'))."
    )
