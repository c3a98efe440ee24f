"""What diffusers' own tests ask of every pipeline (PipelineTesterMixin, which its wheel lacks), with guidance attached.

Batches, half precision, saving, step callbacks and offload to a GPU stand in test_pipelines.py.
"""

import inspect

import pytest
import torch
from diffusers import DiTTransformer2DModel

from diffusion_guidance import CFG, RAAG
from diffusion_guidance.pipelines import GuidedStableDiffusion3Pipeline

from ..tiny import PROMPTS, tiny_sd3
from .cases import CASES
from .test_pipelines import load, named


RATIO_AWARE = RAAG(w_max=6.0, alpha=3.0)


def takes(*arguments):
    return [case for case in CASES if set(arguments) & set(inspect.signature(case.kind.__call__).parameters)]


def modules(pipe) -> list[torch.nn.Module]:
    return [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]


@named(CASES)
def test_tuple_and_output_class_hold_the_same(case):
    pipe = case.pipe(guidance=RATIO_AWARE)
    output = case.tiny.draw(pipe, return_dict=True)  # the first field: an output class is a tuple too
    assert torch.equal(output, case.tiny.draw(pipe))


@named(CASES)
def test_components_make_the_same_pipeline(case):
    pipe = case.pipe()
    settings = {name: value for name, value in pipe.config.items() if name in ("boundary_ratio", "expand_timesteps")}
    other = case.kind(**pipe.components, **settings, guidance=RATIO_AWARE)
    other.set_progress_bar_config(disable=True)
    assert torch.equal(case.tiny.draw(other), case.tiny.draw(pipe, guidance=RATIO_AWARE))


# Stable Diffusion 3 and Wan repeat what they encode, not embeddings that they are given: from text below.
@named([case for case in takes("num_images_per_prompt") if case.tiny.name != "StableDiffusion3"])
def test_several_images_of_a_prompt(case):
    def draw(seeds, **kwargs):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return case.tiny.draw(pipe, guidance=RATIO_AWARE, generator=generators, **kwargs)

    pipe = case.pipe()
    check_several(draw((1, 2, 1, 3), num_images_per_prompt=2), draw((1, 1)))


def test_several_images_of_a_text():
    def draw(seeds, **kwargs):
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        call = {"num_inference_steps": 3, "max_sequence_length": 2, "output_type": "latent"}
        return pipe(PROMPTS, guidance=RATIO_AWARE, generator=generators, **call, **kwargs).images

    pipe = GuidedStableDiffusion3Pipeline.from_pipe(tiny_sd3())
    check_several(draw((1, 2, 1, 3), num_images_per_prompt=2), draw((1, 1)))


def check_several(result: torch.Tensor, once: torch.Tensor) -> None:
    assert len(result) == 4
    # Places 0 and 2 are the first images of the two prompts; kernels round otherwise in another batch.
    assert (result[::2] - once).abs().max() < 3e-6 * once.abs().max()
    assert not torch.allclose(result[0], result[1], atol=1e-2)


@named(CASES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_dtype_by_to_and_by_loading(case, dtype, tmp_path):
    pipe = case.pipe(guidance=RATIO_AWARE).to(dtype)
    assert {module.dtype for module in modules(pipe)} == {dtype}
    assert pipe.guidance == [RATIO_AWARE]
    expected = case.tiny.draw(pipe)
    pipe.save_pretrained(tmp_path)
    loaded = load(case.kind, tmp_path, pipe, dtype=dtype).to(dtype)  # loading leaves position embeddings in float32
    assert {module.dtype for module in modules(loaded)} == {dtype}
    assert torch.equal(case.tiny.draw(loaded), expected)
    assert {module.dtype for module in modules(loaded.to(torch.float32))} == {torch.float32}


@named(CASES)
def test_optional_components_stay_absent(case, tmp_path):
    pipe = case.pipe(guidance=RATIO_AWARE)
    optional = [name for name in pipe._optional_components if not name.startswith("transformer")]
    for name in optional:
        setattr(pipe, name, None)
    expected = case.tiny.draw(pipe)
    pipe.save_pretrained(tmp_path)
    loaded = load(case.kind, tmp_path, pipe)
    assert all(getattr(loaded, name) is None for name in optional)
    torch.testing.assert_close(case.tiny.draw(loaded), expected, rtol=1e-5, atol=1e-5)


@named(CASES)
def test_a_variant_is_saved_and_loaded(case, tmp_path):
    pipe = case.pipe(guidance=RATIO_AWARE)
    pipe.save_pretrained(tmp_path, variant="fp16")
    assert list(tmp_path.rglob("*.fp16.safetensors"))
    loaded = load(case.kind, tmp_path, pipe, variant="fp16")
    torch.testing.assert_close(case.tiny.draw(loaded), case.tiny.draw(pipe), rtol=1e-5, atol=1e-5)


@named(CASES)
def test_attention_slicing_changes_nothing(case):
    pipe = case.pipe(guidance=RATIO_AWARE)
    expected = case.tiny.draw(pipe)
    for size in (1, "auto"):
        pipe.enable_attention_slicing(size)
        torch.testing.assert_close(case.tiny.draw(pipe), expected, rtol=0, atol=1e-3)  # as diffusers
    pipe.disable_attention_slicing()
    assert torch.equal(case.tiny.draw(pipe), expected)


@named(takes("callback_on_step_end"))
def test_callbacks_get_what_they_ask_for_and_nothing_else(case):
    pipe, seen = case.pipe(guidance=RATIO_AWARE), []

    def look(pipe, index, t, tensors):
        seen.append(sorted(tensors))
        return tensors

    names = list(pipe._callback_tensor_inputs)
    result = case.tiny.draw(pipe, callback_on_step_end=look, callback_on_step_end_tensor_inputs=names)
    assert seen == [sorted(names)] * 3
    assert torch.equal(result, case.tiny.draw(pipe))
    with pytest.raises(ValueError, match="nonesuch"):
        case.tiny.draw(pipe, callback_on_step_end=look, callback_on_step_end_tensor_inputs=["nonesuch"])


@named(takes("callback_on_step_end"))
def test_a_callback_that_changes_the_weight_changes_plain_guidance_alike(case):
    pipe = case.pipe()
    if "true_cfg_scale" in case.tiny.scale:
        pytest.skip("its weight is a local variable, which no callback reaches")

    def stronger(pipe, index, t, tensors):
        pipe._guidance_scale += 1.0
        return tensors

    plain = case.tiny.draw(pipe, callback_on_step_end=stronger)
    assert pipe.guidance_scale == case.tiny.weight + 3
    assert torch.equal(case.tiny.draw(pipe, guidance=CFG(), callback_on_step_end=stronger), plain)


@named(CASES)
def test_offload_on_the_cpu(case):
    """Model and sequential offload need an accelerator, and say so; group offload works, where the network has it."""
    pipe = case.pipe(guidance=RATIO_AWARE)
    expected = case.tiny.draw(pipe)
    if not torch.accelerator.is_available():
        for how in (pipe.enable_model_cpu_offload, pipe.enable_sequential_cpu_offload):
            with pytest.raises(RuntimeError, match="requires accelerator"):
                how()
    if isinstance(pipe.transformer if hasattr(pipe, "transformer") else pipe.unet, DiTTransformer2DModel):
        return  # which diffusers does not offload by groups
    pipe.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    assert torch.equal(case.tiny.draw(pipe), expected)
