"""Every cache of the installed diffusers, put on in both ways, under second evaluations of a callback."""

from collections.abc import Callable
from dataclasses import dataclass

import diffusers
import pytest
import torch
from diffusers import hooks

from diffusion_guidance import attach

from ..tiny_families import FAMILIES, Tiny, relative_error
from ..tiny_families.base import embeddings


STEPS = 6
ALWAYS = {"spatial_attention_block_skip_range": 2, "spatial_attention_timestep_skip_range": (-1, 1001)}
NO_CACHES = {"context_parallel", "group_offloading", "layer_skip", "layerwise_casting", "layerwise_casting_hook"}
NO_CACHES |= {"tensor_parallel"}
TINY = {tiny.name: tiny for tiny in FAMILIES}


def nucleus():
    transformer = diffusers.NucleusMoEImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(8, 4, 4),
        moe_enabled=False,
        capacity_factors=[8.0, 8.0],
    )
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return diffusers.NucleusMoEImagePipeline(
        transformer=transformer,
        vae=vae,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        text_encoder=None,
        processor=None,
    )


NUCLEUS = Tiny("NucleusMoE", nucleus, lambda: embeddings(5, 16) | {"height": 32, "width": 32})


@dataclass(frozen=True)
class Cache:
    """How diffusers' `apply_NAME` is used. Attributes: `config` for a pipeline; `exact`, whether it changes nothing."""

    name: str
    tiny: Tiny
    config: Callable
    exact: bool = False


CACHES = (
    Cache("first_block_cache", TINY["Flux"], lambda pipe: hooks.FirstBlockCacheConfig(threshold=0.5)),
    Cache(
        "pyramid_attention_broadcast",
        TINY["CogVideoX"],
        lambda pipe: hooks.PyramidAttentionBroadcastConfig(
            **ALWAYS, current_timestep_callback=lambda: int(pipe._current_timestep)
        ),
    ),
    Cache(
        "faster_cache",
        TINY["CogVideoX"],
        lambda pipe: hooks.FasterCacheConfig(
            **ALWAYS,
            unconditional_batch_skip_range=2,
            unconditional_batch_timestep_skip_range=(-1, 1001),
            current_timestep_callback=lambda: int(pipe._current_timestep),
            tensor_format="BFCHW",
        ),
    ),
    Cache(
        "mag_cache",
        TINY["QwenImage"],
        lambda pipe: hooks.MagCacheConfig(
            threshold=0.5, num_inference_steps=STEPS, mag_ratios=torch.linspace(1, 0.9, STEPS)
        ),
    ),
    Cache(
        "taylorseer_cache",
        TINY["Flux"],
        lambda pipe: hooks.TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=2),
    ),
    Cache(
        "sea_cache",
        TINY["Wan 2.1"],
        lambda pipe: hooks.SeaCacheConfig(
            threshold=5.0, raw_vision_callback=lambda module, args, kwargs: [kwargs["hidden_states"][0]]
        ),
    ),
    Cache("text_kv_cache", NUCLEUS, lambda pipe: hooks.TextKVCacheConfig(), exact=True),
)


def enable(pipe, cache):
    pipe.transformer.enable_cache(cache.config(pipe))


def apply(pipe, cache):
    getattr(hooks, f"apply_{cache.name}")(pipe.transformer, cache.config(pipe))


def test_every_cache_that_diffusers_has_is_here():
    applied = {name.removeprefix("apply_") for name in dir(hooks) if name.startswith("apply_")}
    assert applied == {cache.name for cache in CACHES} | NO_CACHES
    enabled = {name for name in diffusers.CacheMixin.enable_cache.__code__.co_varnames if name.endswith("Config")}
    assert enabled == {type(cache.config(None)).__name__ for cache in CACHES}


@pytest.mark.parametrize("put_on", [enable, apply])
@pytest.mark.parametrize("cache", CACHES, ids=lambda cache: cache.name)
def test_evaluations_of_callbacks_are_exact_and_disturb_nothing(cache, put_on):
    tiny, errors, evaluating = cache.tiny, [], [False]
    plain, pipe, attached = (tiny.pipe() for _ in range(3))
    exact = tiny.draw(plain, steps=STEPS)
    put_on(pipe, cache)
    cached = tiny.draw(pipe, steps=STEPS)
    assert (relative_error(cached, exact) == 0) == cache.exact

    def compare(module, args, kwargs, output):
        """With the same network without a cache, in the evaluations of the callback alone."""
        if evaluating[0]:
            errors.append(relative_error(output[0], plain.transformer(*args, **kwargs)[0]))

    def again(step, proceed):
        evaluating[0] = True
        step.denoise(step.sample + 1, step.timestep)
        step.denoise(step.sample, step.timestep)
        evaluating[0] = False
        return proceed(step)

    put_on(attached, cache)
    attached.transformer.register_forward_hook(compare, with_kwargs=True)
    with attach(attached, again):
        assert torch.equal(tiny.draw(attached, steps=STEPS), cached)
    assert len(errors) >= 2 * STEPS and max(errors) == 0


@pytest.mark.parametrize("put_on", [enable, apply])
def test_the_cache_that_changes_nothing_spares_its_projections(put_on):
    cache, calls = CACHES[-1], []
    pipe = cache.tiny.pipe()
    put_on(pipe, cache)
    for block in pipe.transformer.transformer_blocks:
        block.attn.add_k_proj.register_forward_hook(lambda *args: calls.append(1))
    cache.tiny.draw(pipe, steps=STEPS)
    assert len(calls) == 2 * len(pipe.transformer.transformer_blocks)
