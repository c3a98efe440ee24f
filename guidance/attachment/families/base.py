"""The vocabulary in which a family of pipelines is described, and the registry of those descriptions."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Call:
    """One call of the denoiser, as its forward hook saw it.

    Attributes:
        module: the denoiser that was called.
        arguments: by name, positional ones too.
        output: the first element of what it returned: a tensor, or a list of tensors, one a sample.
    """

    module: torch.nn.Module
    arguments: dict
    output: torch.Tensor | list[torch.Tensor]


@dataclass(frozen=True)
class Evaluation:
    """One guided evaluation of the network, as a pipeline made it: what the formulas of a family may read.

    All predictions are (B, ...), in the space and the sign that the scheduler's `step` expects, and in the dtype in
    which the pipeline combines.

    Attributes:
        pipe: the pipeline.
        module: the denoiser that ran (of several, the one of this step).
        cond, uncond: the two predictions.
        output: what the pipeline gave the scheduler: combined and post-processed.
        aside: output of the last call that does not belong to classifier-free guidance, or None.
    """

    pipe: object
    module: torch.nn.Module
    cond: torch.Tensor
    uncond: torch.Tensor
    output: torch.Tensor
    aside: torch.Tensor | None = None


@dataclass(frozen=True)
class PostProcessing:
    """What a pipeline does to its combination before the scheduler's step.

    Attributes:
        name: the pipeline's own name for it.
        apply: the combination (B, ...) after it.
        active: whether the pipeline did it in this evaluation. It must not wait for the device: where only tensors can
            tell, it says True and `apply` finds out.
    """

    name: str
    apply: Callable[[torch.Tensor, Evaluation], torch.Tensor]
    active: Callable[[Evaluation], bool] = lambda evaluation: True


Weight = Callable[[Evaluation], float | torch.Tensor]


@dataclass(frozen=True)
class Family:
    """How a kind of pipeline calls its denoiser and its scheduler.

    What every family may leave to the attachment: the network's input is the sample scaled as the scheduler says, then
    further channels or tokens that stay as they are; the network's output may have further channels (a learned
    variance) or tokens, which are dropped; the pipeline's own dtype is the one it hands to the scheduler.

    Attributes:
        pipelines: class names of the pipelines; subclasses belong too.
        denoiser: the pipeline's attribute that holds the network.
        enable: what a user sets so that the unconditional pass runs; completes "set ...".
        sample, timestep: names of the denoiser's arguments.
        calls: 1 for one call with both halves in one batch, 2 for two calls of one half each.
        cond_first: whether the conditional half, or call, comes first.
        negated: whether the network predicts minus what the scheduler expects.
        listed: whether samples go in and come out as lists of (C, 1, H, W), one a sample.
        time: the denoiser's time argument from the scheduler's timestep (in the argument's dtype) and the pipeline.
        prediction_type: of the network, or None to take the scheduler's.
        weight: the pipeline's attribute that holds its guidance weight, or a function that finds it; None where it is
            only a local variable, and is recovered from what the pipeline combined.
        doubled: whether the scheduler's `step` receives the sample twice, as `cat([x, x])`.
        aside: names of denoiser arguments that mark a call as not belonging to classifier-free guidance.
        guided: whether a call holds both halves, where the batch sizes do not tell; asked once a run.
        post_processing: what the pipeline does to its combination, or None.
        second_denoiser: the attribute of a second network, which takes over at some noise level. Evaluated again, at
            whatever time, is the one that ran in the step.
    """

    pipelines: tuple[str, ...]
    denoiser: str
    enable: str
    sample: str = "hidden_states"
    timestep: str = "timestep"
    calls: int = 1
    cond_first: bool = False
    negated: bool = False
    listed: bool = False
    time: Callable[[torch.Tensor, object], torch.Tensor] = lambda timestep, pipe: timestep
    prediction_type: str | None = None
    weight: str | Weight | None = None
    doubled: bool = False
    aside: tuple[str, ...] = ()
    guided: Callable[[Call], bool] | None = None
    post_processing: PostProcessing | None = None
    second_denoiser: str | None = None

    def __post_init__(self):
        if self.calls not in (1, 2):
            raise ValueError(f"a family calls its denoiser once or twice a step, got calls={self.calls}")
        if self.post_processing is not None and self.weight is None:
            raise ValueError("a family with post_processing needs weight, since it cannot be recovered after that")


_FAMILIES: list[Family] = []


def register_family(family: Family) -> None:
    """Teach `attach` a kind of pipeline. A family registered later wins over an earlier one of the same class name."""
    _FAMILIES.insert(0, family)


def known_pipelines() -> list[str]:
    """Class names of all pipelines that have a family, sorted."""
    return sorted({name for family in _FAMILIES for name in family.pipelines})


def find_family(pipe) -> Family:
    """The family of `pipe`, by the names of its class and its base classes, the nearest first.

    Raises:
        ValueError: none fits; the message lists the known ones and says how to register one. A modular pipeline.
    """
    for cls in type(pipe).__mro__:
        if cls.__name__ == "ModularPipeline":
            raise ValueError(
                f"{type(pipe).__name__} is a modular pipeline, which takes callbacks as its guider: "
                "pipe.update_components(guider=guidance.CallbackGuider(callbacks))"
            )
        for family in _FAMILIES:
            if cls.__name__ in family.pipelines:
                return family
    known = ", ".join(known_pipelines())
    raise ValueError(
        f"no adapter for {type(pipe).__name__}; describe how it calls its network: "
        f"register_family(Family(pipelines=({type(pipe).__name__!r},), denoiser='transformer', "
        "sample='hidden_states', timestep='timestep', enable='guidance_scale above 1')), with calls=2 if the two "
        f"halves are two calls; diffusion_guidance.Family documents the rest. There are adapters for {known}."
    )
