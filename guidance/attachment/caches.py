"""Evaluations of a network beside the caches that diffusers keeps of a pipeline's own."""

from contextlib import contextmanager

import torch


@contextmanager
def fresh_cache(module: torch.nn.Module):
    """Evaluate `module` without using, or disturbing, what a cache keeps of the pipeline's own calls.

    Raises:
        RuntimeError: the cache counts calls, or has no separate contexts.
    """
    cache = getattr(module, "_cache_config", None)
    if cache is None:
        yield
        return
    if type(cache).__name__ != "FirstBlockCacheConfig":
        raise RuntimeError(
            f"a callback evaluates the network once more, and {type(cache).__name__} counts the pipeline's own "
            "evaluations; call disable_cache() on the denoiser first, or use FirstBlockCacheConfig"
        )
    with module.cache_context("guidance"):
        try:
            yield
        finally:
            _forget(module, "guidance")


def _forget(module: torch.nn.Module, context: str) -> None:
    from diffusers.hooks.hooks import HookRegistry, StateManager

    for registry in (getattr(part, "_diffusers_hook", None) for part in module.modules()):
        if isinstance(registry, HookRegistry):
            for hook in registry.hooks.values():
                for state in vars(hook).values():
                    if isinstance(state, StateManager):
                        state._state_cache.pop(context, None)
