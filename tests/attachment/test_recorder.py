"""The recorder together with what else hooks a denoiser: compilation, offloading, casting, caches, adapters."""

from itertools import pairwise

import accelerate
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, CpuOffload, add_hook_to_module
from diffusers import FirstBlockCacheConfig
from torch._dynamo.testing import CompileCounter

from diffusion_guidance import CFG, RAAG, DiffIER, attach

from ..tiny_families import FAMILIES, Tiny, relative_error


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
    assert before > 0 and counter.frame_count == before  # attaching recompiles nothing
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
    prompts = {"ip_adapter_image_embeds": [torch.randn(4, 1, 6)]}  # negative ones first
    assert relative_error(tiny.draw(pipe, **prompts), without) > 1e-3
    check(tiny, pipe, **prompts)


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


def tiny_calls(tiny: Tiny) -> int:
    return 2 if tiny is TWO_CALLS else 1


def counted(pipe) -> list:
    """Grows by one whenever the transformer runs."""
    ran = []
    part = next(part for part in pipe.transformer.modules() if isinstance(part, torch.nn.Linear))
    part.register_forward_hook(lambda *_: ran.append(1))
    return ran


@EACH
def test_an_answer_stands_for_the_pipelines_next_evaluation_alone(tiny):
    pipe, seen = tiny.pipe(), []
    ran = counted(pipe)

    def answer(step, proceed):
        seen.append(step)
        before = len(ran)
        step.denoise(step.sample, step.timestep)  # a callback's own evaluation is not answered
        assert len(ran) > before
        if step.index == 0:
            other = step.at(2 * step.sample, index=step.grid_index)
            seen.append(other.cond)
            assert step.denoiser.reuse(other)
            assert not step.denoiser.reuse(step)
        return proceed(step)

    with attach(pipe, answer) as attachment:
        tiny.draw(pipe, steps=3)
        assert attachment.evaluations == 4 - 1
    _, answered, second, third = seen
    assert torch.equal(second.cond, answered) and not torch.equal(third.cond, answered)
    assert len(ran) == (3 + 3) * tiny_calls(tiny)
    assert "forward" not in vars(pipe.transformer)


def test_answers_that_do_not_fit_are_dropped():
    """The pipeline changes its batch, or makes fewer calls than there are answers, in the steps that follow."""
    tiny = BY_NAME["Lumina2"]
    pipe, kinds = tiny.pipe(), []
    ran = counted(pipe)

    def watch(step, proceed):
        kinds.append((step.truncated, len(ran)))
        return proceed(step)

    # Its last two answers meet the one call of the first truncated step.
    with attach(pipe, [DiffIER(1, 0.3, reuse=True, stop=0.5), watch], post_process=False):
        tiny.draw(pipe, steps=6, cfg_trunc_ratio=0.5)
    assert {truncated for truncated, _ in kinds} == {True, False}
    # Each later truncated step runs its own pass: no answer for the missing one is left over.
    growth = [after - before for (cut, before), (_, after) in pairwise(kinds) if cut]
    assert growth and set(growth) == {1}

    pipe = ONE_CALL.pipe()

    def lower(pipe, index, timestep, tensors):
        if index == 1:  # the way in which diffusers' documents switch guidance off
            pipe._guidance_scale = 1.0
            return {name: tensors[name][len(tensors[name]) // 2 :] for name in tensors if name != "latents"}
        return {}

    names = ["prompt_embeds", "pooled_prompt_embeds"]
    sizes = []

    def watch_size(step, proceed):
        sizes.append(step.has_unconditional)
        return proceed(step)

    with attach(pipe, [DiffIER(1, 0.3, reuse=True), watch_size]) as attachment:
        ONE_CALL.draw(pipe, steps=4, callback_on_step_end=lower, callback_on_step_end_tensor_inputs=names)
        assert attachment.evaluations == 3 - 2  # the step after the change is not spared
    assert sizes == [True, True, False, False]


def test_with_post_processing_nothing_is_reused():
    """The sampler goes elsewhere than the trial step, which knows nothing of skipped layers."""
    pipe = ONE_CALL.pipe()
    kwargs = {"skip_guidance_layers": [0], "skip_layer_guidance_stop": 1.0, "skip_layer_guidance_start": 0.0}
    plain = ONE_CALL.draw(pipe, steps=4, **kwargs)
    with attach(pipe, DiffIER(1, 0.0, reuse=True)) as attachment:
        assert relative_error(ONE_CALL.draw(pipe, steps=4, **kwargs), plain) < 1e-5
        assert attachment.evaluations == 3 - 1  # the pipeline skips no layers in its first step


def test_a_compiled_network_is_never_spared():
    pipe = ONE_CALL.pipe()
    with attach(pipe, DiffIER(1, 0.3, reuse=True)):
        expected = ONE_CALL.draw(pipe, steps=3)
    pipe.transformer.compile(backend="eager")
    with attach(pipe, DiffIER(1, 0.3, reuse=True)) as attachment:
        ONE_CALL.draw(pipe, steps=3)
        assert attachment.evaluations == 2
    assert torch.isfinite(expected).all()
