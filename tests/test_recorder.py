"""The recorder beside what else hooks a denoiser: compilation, offloading, casting, caches, adapters."""

import accelerate
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, CpuOffload, add_hook_to_module
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from torch._dynamo.testing import CompileCounter

from guidance import CFG, RAAG, attach
from tests.tiny_families import FAMILIES, Tiny, relative_error


BY_NAME = {tiny.name: tiny for tiny in FAMILIES}
ONE_CALL, TWO_CALLS = BY_NAME["StableDiffusion3"], BY_NAME["Flux"]
EACH = pytest.mark.parametrize("tiny", [ONE_CALL, TWO_CALLS], ids=["one call", "two calls"])


def check(tiny: Tiny, pipe, **kwargs) -> None:
    """Attached plain guidance equals the pipeline's, the network can be evaluated again, and nothing remains."""
    plain, same = tiny.draw(pipe, **kwargs), []

    def again(step, proceed):
        cond, uncond = step.denoise(step.sample, step.timestep)
        same.append(torch.equal(cond, step.cond) and torch.equal(uncond, step.uncond))
        return proceed(step)

    with attach(pipe, [CFG(weight=tiny.weight), again]):
        assert torch.equal(tiny.draw(pipe, **kwargs), plain)
    assert same == [True] * 3
    with attach(pipe, RAAG()):
        assert relative_error(tiny.draw(pipe, **kwargs), plain) > 1e-3
    assert torch.equal(tiny.draw(pipe, **kwargs), plain)


@EACH
def test_compiled_in_place(tiny):
    pipe, counter = tiny.pipe(), CompileCounter()
    expected = tiny.draw(pipe)
    pipe.transformer.compile(backend=counter)
    assert relative_error(tiny.draw(pipe), expected) < 1e-6  # compiled before anything is attached
    before = counter.frame_count
    check(tiny, pipe)
    assert before > 0 and counter.frame_count == before  # attaching compiles nothing anew
    torch._dynamo.reset()


def test_compiled_while_attached():
    tiny = ONE_CALL
    pipe = tiny.pipe()
    plain = tiny.draw(pipe)
    with attach(pipe, CFG(weight=tiny.weight)):
        pipe.transformer.compile(backend="eager")
        assert torch.equal(tiny.draw(pipe), plain)
    check(tiny, pipe)
    torch._dynamo.reset()


@EACH
def test_compiled_module(tiny):
    pipe = tiny.pipe()
    pipe.transformer = torch.compile(pipe.transformer, backend="eager")
    check(tiny, pipe)
    torch._dynamo.reset()


def align(pipe):
    add_hook_to_module(pipe.transformer, AlignDevicesHook(execution_device="cpu", io_same_device=True))


def model_offload(pipe):
    add_hook_to_module(pipe.transformer, CpuOffload("cpu"))


def sequential_offload(pipe):
    for network in (pipe.transformer, pipe.vae):
        accelerate.cpu_offload(network, execution_device=torch.device("cpu"))


def group_offload(pipe):
    pipe.transformer.enable_group_offload(onload_device=torch.device("cpu"), offload_type="leaf_level")


@EACH
@pytest.mark.parametrize("offload", [align, model_offload, sequential_offload, group_offload])
def test_offloaded(tiny, offload):
    pipe = tiny.pipe()
    offload(pipe)
    check(tiny, pipe)


@EACH
def test_layerwise_casting(tiny):
    pipe = tiny.pipe()
    pipe.transformer.enable_layerwise_casting(torch.bfloat16, torch.float32)
    check(tiny, pipe, dtype=torch.float32)


def test_a_cache_that_never_hits():
    pipe = TWO_CALLS.pipe()
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    check(TWO_CALLS, pipe)


def test_evaluations_of_callbacks_neither_use_nor_disturb_a_cache():
    pipe = TWO_CALLS.pipe()
    exact = TWO_CALLS.draw(pipe, steps=6)
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    cached, hits = TWO_CALLS.draw(pipe, steps=6), []
    assert relative_error(cached, exact) > 1e-4

    def again(step, proceed):
        first = step.denoise(step.sample, step.timestep)
        step.denoise(step.sample + 1, step.timestep)
        second = step.denoise(step.sample, step.timestep)
        assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
        hits.append(not torch.equal(first[0], step.cond))
        return proceed(step)

    with attach(pipe, again):
        assert torch.equal(TWO_CALLS.draw(pipe, steps=6), cached)
    assert not hits[0] and any(hits)  # the pipeline's own predictions are the cache's, those of the callback exact


def test_a_cache_that_counts_calls_is_refused_when_the_network_is_evaluated_again():
    pipe = TWO_CALLS.pipe()
    pipe.transformer.enable_cache(
        PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2, current_timestep_callback=lambda: pipe._current_timestep
        )
    )
    plain = TWO_CALLS.draw(pipe)
    with attach(pipe, CFG(weight=TWO_CALLS.weight)):
        assert torch.equal(TWO_CALLS.draw(pipe), plain)
    again = attach(pipe, lambda step, proceed: proceed(step.at(step.sample, timestep=step.timestep)))
    with again, pytest.raises(RuntimeError, match=r"PyramidAttentionBroadcastConfig counts .* disable_cache"):
        TWO_CALLS.draw(pipe)


@EACH
def test_beside_lora(tiny):
    peft = pytest.importorskip("peft")
    pipe = tiny.pipe()
    without = tiny.draw(pipe)
    torch.manual_seed(0)
    pipe.transformer.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    assert relative_error(tiny.draw(pipe), without) > 1e-3
    check(tiny, pipe)


def test_beside_an_ip_adapter():
    tiny = BY_NAME["StableDiffusion"]
    pipe = tiny.pipe()
    without = tiny.draw(pipe)
    torch.manual_seed(0)
    weights, number = {}, 1
    for name in pipe.unet.attn_processors:
        if "attn2" in name:
            width = pipe.unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            weights |= {f"{number}.{key}_ip.weight": torch.randn(width, 8) for key in ("to_k", "to_v")}
            number += 2
    projection = {
        "proj.weight": torch.randn(4 * 8, 6),
        "proj.bias": torch.randn(4 * 8),
        "norm.weight": torch.ones(8),
        "norm.bias": torch.zeros(8),
    }
    pipe.unet._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": weights}])
    pictures = {"ip_adapter_image_embeds": [torch.randn(4, 1, 6)]}  # negative ones first
    assert relative_error(tiny.draw(pipe, **pictures), without) > 1e-3
    check(tiny, pipe, **pictures)


@EACH
def test_beside_callback_on_step_end(tiny):
    """It may change the latents and the conditioning of the steps to come."""

    def change(pipe, index, timestep, tensors):
        return {name: tensor + 0.1 * (index + 1) for name, tensor in tensors.items()}

    pipe = tiny.pipe()
    kwargs = {
        "callback_on_step_end": change,
        "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"],
    }
    assert relative_error(tiny.draw(pipe, **kwargs), tiny.draw(pipe)) > 1e-3
    check(tiny, pipe, **kwargs)
