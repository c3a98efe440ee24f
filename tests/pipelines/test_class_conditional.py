import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

from diffusion_guidance import CFG, RAAG, MissingUnconditionalError, Trace
from diffusion_guidance.pipelines import ClassConditionalPipeline

from .cases import digits, digits_transformer


@pytest.fixture(scope="module")
def transformer():
    torch.manual_seed(0)
    return digits_transformer().eval()


@pytest.fixture
def pipe(transformer):
    return make(transformer, DDIMScheduler(clip_sample=False))


def make(transformer, scheduler):
    pipe = ClassConditionalPipeline(transformer, scheduler)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def draw(pipe, classes=(3, 7), steps: int = 3, **kwargs):
    kwargs = {"output_type": "latent", "generator": generators(*range(len(classes)))} | kwargs
    return pipe(list(classes), num_inference_steps=steps, **kwargs).images


@torch.no_grad()
def by_hand(transformer, scheduler, classes, combine, steps: int = 3):
    """The loop written out: one call a class and half, noise from the same seeds."""
    scheduler.set_timesteps(steps)
    one = generators(*range(len(classes)))
    noise = [torch.randn((1, 1, 8, 8), generator=generator) for generator in one]
    x = torch.cat(noise) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t)
        time = t.reshape(1).expand(len(x))
        cond = transformer(scaled, time, torch.tensor(classes)).sample
        uncond = transformer(scaled, time, torch.full((len(x),), 10)).sample
        extra = {"generator": one} if isinstance(scheduler, DDPMScheduler | DDIMScheduler) else {}
        x = scheduler.step(combine(cond, uncond), t, x, **extra).prev_sample
    return x


SCHEDULERS = [
    lambda: DDPMScheduler(clip_sample=False),
    lambda: DDIMScheduler(clip_sample=False),
    lambda: DPMSolverMultistepScheduler(),
    lambda: UniPCMultistepScheduler(),
    lambda: EulerDiscreteScheduler(),
    lambda: HeunDiscreteScheduler(),
]


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda make: type(make()).__name__)
def test_equals_the_loop_written_out(transformer, scheduler):
    result = draw(make(transformer, scheduler()), guidance_scale=4.0)
    expected = by_hand(transformer, scheduler(), [3, 7], lambda c, u: u + 4.0 * (c - u))
    assert (result - expected).abs().max() <= 1e-5 * expected.abs().max()
    unguided = draw(make(transformer, scheduler()), guidance_scale=1.0)
    expected = by_hand(transformer, scheduler(), [3, 7], lambda c, u: c)
    assert (unguided - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("scheduler", SCHEDULERS, ids=lambda make: type(make()).__name__)
def test_plain_guidance_as_a_callback_changes_nothing(transformer, scheduler):
    pipe = make(transformer, scheduler())
    assert torch.equal(draw(pipe, guidance_scale=4.0), draw(pipe, guidance=CFG(4.0)))
    trace = Trace()
    draw(pipe, guidance=[RAAG(), trace])
    assert torch.isfinite(trace.to_dict()["sigma"]).all()


def test_each_sample_has_its_generator(pipe):
    torch.testing.assert_close(draw(pipe)[1:], draw(pipe, [7], generator=generators(1)), rtol=1e-5, atol=1e-4)
    first, second = draw(pipe, [3, 3], generator=generators(5, 5))
    assert torch.equal(first, second)
    assert not torch.equal(*draw(pipe, [3, 4], generator=generators(5, 5)))


def test_latents_replace_the_noise(pipe):
    noise = torch.cat([torch.randn((1, 1, 8, 8), generator=generator) for generator in generators(0, 1)])
    assert torch.equal(draw(pipe, latents=noise), draw(pipe))


def test_output_types(pipe):
    latents = draw(pipe)
    images = draw(pipe, output_type="pt")
    assert torch.equal(images, (latents / 2 + 0.5).clamp(0, 1))
    array = draw(pipe, output_type="np")
    assert array.shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(array, images.permute(0, 2, 3, 1).numpy())
    grey = draw(pipe, output_type="pil")
    assert [(image.mode, image.size) for image in grey] == [("L", (8, 8))] * 2
    np.testing.assert_array_equal(np.asarray(grey[0]), (array[0, :, :, 0] * 255).round().astype("uint8"))
    assert torch.equal(
        pipe([3, 7], num_inference_steps=3, generator=generators(0, 1), output_type="pt", return_dict=False)[0],
        images,
    )
    assert pipe(3, num_inference_steps=1, output_type="pt").images.shape == (1, 1, 8, 8)


def test_learned_variance_is_dropped(transformer):
    torch.manual_seed(0)
    wide = type(transformer).from_config(transformer.config | {"out_channels": 2}).eval()
    torch.nn.init.normal_(wide.proj_out_2.weight, std=0.1)
    scheduler = DDIMScheduler(clip_sample=False)
    expected = by_hand(wide, scheduler, [3, 7], lambda c, u: (u + 4.0 * (c - u))[:, :1])
    torch.testing.assert_close(draw(make(wide, scheduler)), expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(draw(make(wide, scheduler), guidance=RAAG()), expected)


def test_number_of_classes_is_the_networks(pipe, transformer):
    seen = []

    def record(module, args, kwargs):
        seen.append(kwargs["class_labels"].tolist())

    handle = transformer.register_forward_pre_hook(record, with_kwargs=True)
    draw(pipe, steps=1)
    handle.remove()
    assert pipe.num_classes == 10
    assert seen == [[10, 10, 3, 7]]


def test_missing_unconditional_pass_is_named(pipe):
    with pytest.raises(MissingUnconditionalError, match="guidance_scale"):
        draw(pipe, guidance_scale=1.0, guidance=RAAG())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_labels": [10]}, "from 0 to 9"),
        ({"class_labels": [-1]}, "from 0 to 9"),
        ({"class_labels": []}, "from 0 to 9"),
        ({"class_labels": [1.5]}, "whole numbers"),
        ({"class_labels": [1, 2], "generator": generators(0)}, "1 for 2"),
        ({"class_labels": 1, "latents": torch.zeros(1, 1, 4, 4)}, r"\(1, 1, 8, 8\)"),
        ({"class_labels": 1, "output_type": "jpg"}, "output_type"),
        ({"class_labels": 1, "callback_on_step_end_tensor_inputs": ["image"]}, "only latents"),
    ],
)
def test_bad_input(pipe, arguments, message):
    with pytest.raises(ValueError, match=message):
        pipe(**arguments)


def test_tiny_instance_guides():
    pipe = digits()
    pipe.set_progress_bar_config(disable=True)
    assert not torch.allclose(draw(pipe, guidance_scale=1.0), draw(pipe, guidance_scale=4.0), atol=1e-3)
