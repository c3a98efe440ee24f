"""Autoguidance: away from a worse version of the same network (arXiv 2406.02507)."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import classifier_free_guidance
from ..core.needs import Upcoming
from ..core.protocols import Pipeline
from ..core.step import Step


def autoguidance(strong: torch.Tensor, weak: torch.Tensor, weight: float) -> torch.Tensor:
    """`weak + weight * (strong - weak)`, (B, ...), in float32 and back to the dtype of `strong`.

    Args:
        strong, weak: (B, ...) conditional predictions of the two networks, in any space that is linear in x0.
        weight: the paper's w; 1 is `strong` alone.
    """
    return classifier_free_guidance(strong, weak, weight)


@contextmanager
def without_lora(network: torch.nn.Module) -> Iterator[None]:
    """Within it, `network` runs as if no LoRA had been loaded. Other threads that run it see that too.

    Raises:
        ValueError: it has no LoRA, or one that was fused into its weights.
    """
    peft = sys.modules.get("peft")
    kind = () if peft is None else peft.tuners.tuners_utils.BaseTunerLayer
    layers = [layer for layer in network.modules() if isinstance(layer, kind)]
    if not layers:
        raise ValueError(f"{type(network).__name__} has no LoRA to leave out; load one, or give autoguidance a network")
    if any(layer.merged for layer in layers):
        raise ValueError("the LoRA was fused into the weights and cannot be left out; call unfuse_lora first")
    active = [layer for layer in layers if not layer.disable_adapters]
    try:
        for layer in active:  # their own `enable_adapters` would also change what requires a gradient
            layer._disable_adapters = True
        yield
    finally:
        for layer in active:
            layer._disable_adapters = False


class Autoguidance(Callback):
    """Guides away from a worse version of the same network: smaller, trained less, or without its LoRA.

    It needs no unconditional prediction, so the pipeline should run without that pass (a guidance scale of 1); each
    step then costs one pass of either network, as much as classifier-free guidance.

    Neutral: `weight=1`.
    Source: arXiv 2406.02507.

    Args:
        network: the worse network, of the same inputs and outputs and on the same device; or the folder (or hub id) of
            one, loaded from safetensors as the class of the pipeline's own network, also from a pipeline's folder; or
            None for the pipeline's network without its LoRA.
        weight: the paper's w. Its best for EDM2 are 2.05 to 2.1.
        start, stop: see `Callback`.

    Raises:
        ValueError: a weight that is not finite; when attached, a folder without such a network; when called, a network
            without LoRA where none was given, or one whose prediction has another shape.
    """

    @register_to_config
    def __init__(
        self,
        network: str | torch.nn.Module | None = None,
        weight: float = 2.0,
        start: float = 0.0,
        stop: float = 1.0,
    ):
        super().__init__(start, stop)
        if not -float("inf") < weight < float("inf"):
            raise ValueError(f"weight must be finite, got {weight}")
        self.network, self.weight = network, weight
        self._loaded: torch.nn.Module | None = network if isinstance(network, torch.nn.Module) else None

    def reads(self, upcoming: Upcoming) -> bool | None:
        return False

    def install(self, pipe: Pipeline, is_ours: Callable[[], bool]) -> Callable[[], None] | None:
        if isinstance(self.network, str) and self._loaded is None:
            self._loaded = load_like(pipe, self.network)
        return None

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        strong = step.cond
        if self.weight == 1:
            return strong
        own = step.denoiser.module
        if self._loaded is None and self.network is not None:
            raise ValueError(f"{self.network} is loaded by attach; use this callback there")
        with without_lora(own) if self._loaded is None else nullcontext():
            weak = step.with_network(self._loaded or own).cond
        return autoguidance(strong, weak, self.weight)


def load_like(pipe: Pipeline, name: str) -> torch.nn.Module:
    """The network in the folder or hub repository `name`, as the class, dtype and device of the pipeline's own.

    Raises:
        ValueError: the pipeline has no transformer or unet, or there is no such network in `name`.
    """
    part = next((part for part in ("transformer", "unet") if getattr(pipe, part, None) is not None), None)
    if part is None:
        raise ValueError(f"{type(pipe).__name__} has no transformer or unet; give autoguidance the network itself")
    own = getattr(pipe, part)
    kind = type(getattr(own, "_orig_mod", own))  # of a compiled network
    if not hasattr(kind, "from_pretrained"):
        raise ValueError(f"{kind.__name__} cannot be loaded from {name}; give autoguidance the network itself")
    subfolder = part if (Path(name) / part).is_dir() else None
    try:
        network = kind.from_pretrained(name, subfolder=subfolder, torch_dtype=own.dtype, use_safetensors=True)
    except OSError as error:
        raise ValueError(f"no {kind.__name__} for autoguidance in {name}: {error}") from error
    return network.to(own.device).eval()
