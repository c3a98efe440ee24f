"""A network through which gradients reach its input, within a pipeline's step, which runs without them."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


#: Without dropout there is no random state to keep, and keeping it would wait for the device.
recomputed = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


@contextmanager
def differentiable(module: torch.nn.Module) -> Iterator[None]:
    """Context in which autograd records and the weights of `module` want no gradient.

    Where `module` is a model of diffusers that can, its blocks keep no activations but are computed again in the
    backward pass, which belongs within the context. At the end all is set as before.
    """
    parts = list(module.modules())
    able = getattr(module, "_supports_gradient_checkpointing", False)
    if any(getattr(part, "gradient_checkpointing", False) or hasattr(part, "_diffusers_hook") for part in parts):
        able = False  # the user's own setting; or hooks, which would see a block twice
    blocks: list[Any] = [part for part in parts if able and hasattr(part, "gradient_checkpointing")]
    before = [(block, vars(block).get("_gradient_checkpointing_func")) for block in blocks]
    try:
        for block in blocks:
            block.gradient_checkpointing, block._gradient_checkpointing_func = True, recomputed
        with frozen(module), torch.enable_grad():
            yield
    finally:
        for block, function in before:
            block.gradient_checkpointing = False
            if function is None:
                del block._gradient_checkpointing_func
            else:
                block._gradient_checkpointing_func = function


@contextmanager
def frozen(module: torch.nn.Module) -> Iterator[None]:
    """Context in which the weights of `module` want no gradient."""
    wanted = [each for each in module.parameters() if each.requires_grad and not each.is_inference()]
    for each in wanted:
        each.requires_grad_(False)
    try:
        yield
    finally:
        for each in wanted:
            each.requires_grad_(True)
