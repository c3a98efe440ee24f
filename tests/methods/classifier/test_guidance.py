import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from torch import nn

from diffusion_guidance import (
    CFG,
    RAAG,
    ClassifierGuidance,
    GuidanceInterval,
    Reading,
    Strength,
    Trace,
    attach,
    class_gradient,
    from_config,
    load_classifier,
    to_config,
)
from diffusion_guidance.core.groups import grouped

from ...classifiers import tiny_spec
from ...gaussian import GaussianPipeline
from ...nosync import NoSynchronisation
from ...peak import PeakBytes
from ...pipelines import cases
from ...tiny import PROMPTS, draw_dit, draw_sd3, tiny_dit, tiny_sd3
from ...tiny_families import FAMILIES


def digits():
    torch.manual_seed(0)
    pipe = cases.digits()
    pipe.transformer.eval()  # in training it drops classes by chance
    pipe.set_progress_bar_config(disable=True)
    return pipe


def classifier(channels: int = 1, classes: int = 10, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(channels, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes)).eval()


def draw(pipe, guidance=None, weight: float = 1.0, steps: int = 6, labels=(3, 7), seed: int = 0) -> torch.Tensor:
    with attach(pipe, guidance) if guidance is not None else nullcontext():
        generator = torch.Generator().manual_seed(seed)
        call = {"guidance_scale": weight, "num_inference_steps": steps, "output_type": "latent"}
        return pipe(list(labels), generator=generator, **call).images


def log_prob(model: nn.Module, images: torch.Tensor, labels) -> torch.Tensor:
    with torch.no_grad():
        return model(images.float()).log_softmax(1).gather(1, torch.tensor(labels)[:, None]).mean()


def test_at_most_a_chunk_is_given_to_the_classifier_and_its_graph_is_freed():
    model, seen = classifier(), []
    guide = ClassifierGuidance(lambda x: seen.append(len(x)) or model(x), reading=Reading(softplus=0), chunk=2)
    draw(digits(), guide, steps=2, labels=(1, 2, 3, 4, 5))
    assert seen == [2, 2, 1] * 2


@pytest.mark.parametrize(
    "scheduler",
    [DDPMScheduler(), DDIMScheduler(), DDIMScheduler(clip_sample=False), DPMSolverMultistepScheduler()],
    ids=["ddpm", "ddim", "ddim unclipped", "dpm++"],
)
@pytest.mark.parametrize("schedule", ["x0", "ddpm", "edm"])
def test_scale_zero_is_the_pipeline_and_a_higher_scale_raises_the_probability_of_the_class(schedule, scheduler):
    pipe, model, labels = digits(), classifier(), [3, 7] * 8
    pipe.scheduler = scheduler
    plain = draw(pipe, labels=labels)
    same = draw(pipe, ClassifierGuidance(model, Strength(schedule, scale=0.0)), labels=labels)
    if schedule != "edm":  # whose factor is never below 1e-5
        assert torch.equal(same, plain)
    scale = 0.05 if schedule == "edm" else 3.0
    guided = draw(pipe, ClassifierGuidance(model, Strength(schedule, scale=scale)), labels=labels)
    assert log_prob(model, guided, labels) > log_prob(model, plain, labels)


def recorded(pipe, guide, **kwargs) -> tuple[list, list]:
    """(prediction, step) before and after `guide` in each step."""
    before, after = [], []

    def watch(target):
        def callback(step, proceed):
            target.append((step, proceed(step)))
            return target[-1][1]

        return callback

    draw(pipe, [watch(before), guide, watch(after)], **kwargs)
    return before, after


def test_the_mean_of_a_ddpm_step_moves_by_the_variance_times_the_gradient():
    """By diffusers' own step and its own variance: the mean of the guided step minus that of the unguided one."""
    pipe, model, steps = digits(), classifier(), 8
    pipe.scheduler = DDPMScheduler(clip_sample=False)
    guide = ClassifierGuidance(model, Strength("ddpm", gamma=0.3), Reading(softplus=0, tau_marginal=0.5))
    before, after = recorded(pipe, guide, steps=steps)
    variances = [pipe.scheduler._get_variance(t).item() for t in pipe.scheduler.timesteps]
    for index, ((step, plain), (_, guided)) in enumerate(zip(before, after, strict=True)):
        means = [
            pipe.scheduler.step(
                each, step.timestep, step.sample, generator=torch.Generator().manual_seed(0)
            ).prev_sample
            for each in (plain, guided)
        ]
        x = step.to_x0(plain).clamp(-1, 1)
        gradient = class_gradient(model, x, torch.tensor([3, 7]), 1.0, 0.5)
        time = (steps - 1 - index) / steps
        added = 0.3 * max(variances) * torch.sin(torch.tensor(torch.pi * time))
        # 1e-20 is what diffusers writes for a variance of 0.
        expected = (variances[index] * (variances[index] > 1e-10) + added) * gradient
        torch.testing.assert_close(means[1] - means[0], expected, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, HeunDiscreteScheduler])
def test_the_sample_of_an_edm_step_moves_by_the_strength(kind):
    """With a network that predicts noise 0 each step keeps its sample, so what it ends with is the sum of shifts."""
    pipe, steps = digits(), 5
    pipe.scheduler = kind()
    pipe.transformer.proj_out_2.weight.data.zero_()
    pipe.transformer.proj_out_2.bias.data.zero_()
    direction = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(3))

    def linear(x: torch.Tensor) -> torch.Tensor:
        score = (x * direction).sum((1, 2, 3))
        return torch.stack([score, -score], 1)

    guide = ClassifierGuidance(linear, Strength("edm", scale=0.01), Reading(softplus=0), labels=0)
    start = draw(pipe, steps=steps)
    after = draw(pipe, guide, steps=steps)
    unit, expected = direction / direction.square().mean().sqrt(), start.clone()
    for index in range(1, steps):
        strength = 0.01 * (steps + 1 - index) / (steps + 1)
        strength += 0.003 * torch.sin(torch.tensor(torch.pi * index / steps))
        expected = expected + strength * expected.square().mean((1, 2, 3), keepdim=True).sqrt() * unit
    # Heun's second evaluation sees the sample where the whole shift would have put it.
    torch.testing.assert_close(after, expected, rtol=2e-3 if kind is HeunDiscreteScheduler else 1e-4, atol=1e-4)


def test_class_ids_come_from_the_call_whether_guided_or_not():
    model = classifier()
    for weight in (1.0, 3.0):
        pipe = digits()
        given = draw(pipe, ClassifierGuidance(model, labels=[3, 7]), weight=weight)
        assert torch.equal(draw(pipe, ClassifierGuidance(model), weight=weight), given)
        assert not torch.equal(draw(pipe, ClassifierGuidance(model, labels=5), weight=weight), given)


@pytest.mark.parametrize("weight", [1.0, 4.0])
def test_dit_is_guided_by_the_ids_of_its_call_through_its_own_decoder(weight):
    pipe, model = tiny_dit(), classifier(3, classes=2)
    pipe.scheduler = DDIMScheduler(clip_sample=False)
    values = []
    for seed in range(3):
        plain = draw_dit(pipe, weight=weight, seed=seed)
        with attach(pipe, ClassifierGuidance(model, Strength(scale=8.0))):
            guided = draw_dit(pipe, weight=weight, seed=seed)
        values.append([log_prob(model, images * 2 - 1, [0, 1]) for images in (plain, guided)])
    assert sum(after - before for before, after in values) > 0


def test_sd3_is_guided_by_clip_told_the_classes_through_its_decoder_and_through_a_tiny_one(tmp_path):
    """Text to image has no class ids, and needs none: `labels` says which of the classes is wanted."""
    pipe, spec, labels = tiny_sd3(), tiny_spec("open_clip", tmp_path), [2, 0]
    model = load_classifier(**spec)
    torch.manual_seed(0)
    tiny = AutoencoderTiny(
        latent_channels=pipe.vae.config.latent_channels,
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()
    guides = [ClassifierGuidance(spec, Strength(scale=2.0), labels=labels, decoder=each) for each in (None, tiny)]
    gains = []
    for seed in range(4):
        plain = draw_sd3(pipe, output_type="pt", seed=seed)
        with attach(pipe, guides[0]):
            guided = draw_sd3(pipe, output_type="pt", seed=seed)
        before, after = (model(images * 2 - 1).softmax(1)[[0, 1], labels] for images in (plain, guided))
        gains.append((after - before).mean())
    assert sum(gains) / len(gains) > 0.02
    with attach(pipe, guides[1]):
        assert not torch.equal(draw_sd3(pipe, output_type="pt", seed=3), guided)


def test_a_guided_step_holds_one_backward_pass_of_a_chunk_and_keeps_nothing():
    pipe, model = tiny_sd3(), classifier(3, classes=2)

    def measured(batch: int, chunk: int) -> tuple[int, int]:
        """The most bytes that guiding one step holds, and those of its latents."""
        guide, found = ClassifierGuidance(model, labels=1, chunk=chunk), []

        def watched(step, proceed):
            prediction = proceed(step)
            with PeakBytes() as memory:
                moved = guide(step, lambda _: prediction)
            size = moved.nbytes
            assert (
                moved.grad_fn is None and memory.held <= size + 16
            )  # besides it alpha and sigma, which the step keeps
            found.append((memory.peak, size))
            return moved

        with attach(pipe, watched):
            draw_sd3(pipe, PROMPTS * (batch // 2), steps=1)
        return found[0]

    (alone, two), (chunked, eight), (whole, _) = measured(2, 2), measured(8, 2), measured(8, 8)
    assert whole > 3.9 * alone
    assert chunked - alone <= 3 * (eight - two)  # the estimate and the gradients of the chunks that are done
    latents = torch.randn(2, 4, 8, 8).requires_grad_()
    with PeakBytes() as memory:
        torch.autograd.grad(model(pipe.vae.decode(latents).sample)[:, 1].sum(), latents)
    assert alone <= memory.peak + 4 * two  # that of decoder and classifier, and a few latents


def test_a_pipeline_without_class_ids_says_what_it_has():
    pipe, message = tiny_sd3(), r"no tensor 'class_labels' in this step; it is given .*timestep"
    with attach(pipe, ClassifierGuidance(classifier(3))), pytest.raises(ValueError, match=message):
        draw_sd3(pipe)


@pytest.mark.parametrize("name", ["StableDiffusion3", "Flux", "Lumina2", "DiT"])
def test_conditioning_is_the_conditional_half(name):
    tiny = next(each for each in FAMILIES if each.name == name)
    pipe, argument = tiny.pipe(), {"DiT": "class_labels"}.get(name, "encoder_hidden_states")
    given = []
    handle = pipe.transformer.register_forward_pre_hook(
        lambda module, args, kwargs: given.append(kwargs[argument]), with_kwargs=True
    )
    found = []
    with attach(pipe, lambda step, proceed: found.append(step.conditioning(argument)) or proceed(step)):
        tiny.draw(pipe, steps=1)
    handle.remove()
    both = given if len(given) == 2 else given[0].chunk(2)
    expected = both[0] if name in ("DiT", "Flux", "Lumina2") else both[1]
    assert torch.equal(found[0], expected)


def test_flow_models_are_guided_towards_a_component_of_a_gaussian_mixture():
    """The exact classifier of a mixture is linear in x0 up to its normaliser, and moves samples of the whole to one."""
    means = torch.tensor([[1.0, 0, 0, 0], [-1.0, 0, 0, 0]])
    pipe = GaussianPipeline(means, spread=0.3)
    noise, whole = torch.randn(200, 4, generator=torch.Generator().manual_seed(0)), torch.full((200,), 2)

    def exact(x: torch.Tensor) -> torch.Tensor:
        return -(x[:, None] - means).square().sum(-1) / (2 * 0.3**2)

    plain = pipe(whole, noise, guidance_scale=1.0).images
    guide = ClassifierGuidance(
        exact, Strength(data_std=0.3, gamma=0.0), Reading(softplus=0, tau_marginal=0.5), labels=0
    )
    with attach(pipe, guide):
        guided = pipe(whole, noise, guidance_scale=1.0).images
    share = [(images[:, 0] > 0).float().mean() for images in (plain, guided)]
    assert 0.4 < share[0] < 0.6 and share[1] > 0.9
    assert torch.isfinite(guided).all()


def test_works_in_one_list_with_the_others_and_in_a_window():
    pipe, model = digits(), classifier()
    guide = ClassifierGuidance(model, start=0.5, stop=0.8)
    callbacks = [RAAG(3.0, 2.0), GuidanceInterval(0.1, 5.0), guide, trace := Trace()]
    assert torch.isfinite(draw(pipe, callbacks, weight=2.0)).all() and len(trace.to_dict()["sigma"]) == 6
    before, after = recorded(pipe, guide)
    changed = [not torch.equal(one, two) for (_, one), (_, two) in zip(before, after, strict=True)]
    assert changed == [False, False, False, True, False, False]


def test_a_image_does_not_depend_on_its_batch():
    pipe, guide = digits(), ClassifierGuidance(classifier(), Strength("edm"))
    generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    call = {"guidance_scale": 1.0, "num_inference_steps": 4, "output_type": "latent"}
    with attach(pipe, guide):
        together = pipe([1, 2, 3], generator=generators, **call).images
        alone = pipe([2], generator=[torch.Generator().manual_seed(1)], **call).images
    torch.testing.assert_close(alone[0], together[1], rtol=1e-3, atol=1e-3 * together.abs().max().item())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_denoisers_with_a_float32_classifier(dtype):
    pipe, seen = digits().to(dtype), set()
    model = classifier()
    guide = ClassifierGuidance(lambda x: seen.add(x.dtype) or model(x), reading=Reading(softplus=0))
    assert torch.isfinite(draw(pipe, guide)).all() and seen == {torch.float32}


def test_inside_inference_mode():
    pipe, guide = digits(), ClassifierGuidance(classifier())
    expected = draw(pipe, guide)
    with torch.inference_mode():
        torch.testing.assert_close(draw(pipe, guide), expected)


@pytest.mark.parametrize("schedule", ["x0", "ddpm", "edm"])
def test_no_step_waits_for_the_device(schedule):
    pipe, guide = digits(), ClassifierGuidance(classifier(), Strength(schedule))
    checked = []

    def watched(step, proceed):
        prediction = proceed(step)
        with NoSynchronisation():
            checked.append(guide(step, lambda _: prediction))
        return checked[-1]

    draw(pipe, watched, steps=3)
    assert len(checked) == 3


def test_the_users_model_is_not_changed():
    model = classifier()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    guide = ClassifierGuidance(model)
    draw(digits(), guide)
    assert guide.replaced == ("1", "3") and isinstance(model[1], nn.ReLU)
    assert all(each.requires_grad for each in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert ClassifierGuidance(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()).replaced == ()


def test_presets_hold_the_published_constants_and_each_can_be_changed():
    ddpm, edm = (ClassifierGuidance(classifier(), Strength(schedule)) for schedule in ("ddpm", "edm"))
    assert ddpm.strength.constants() == (1, 0.3) and ddpm.reading == ("estimate", 3, 1, 0.5)
    assert edm.strength.constants() == (0.004, 0.3) and edm.reading == ("sample", 5, 1, 0)
    assert (ddpm.classifier.module[1].beta, edm.classifier.module[1].beta) == (3, 5)
    changed = ClassifierGuidance(classifier(), Strength("ddpm", gamma=0), Reading("sample", softplus=0, tau_marginal=1))
    assert changed.replaced == () and changed.reading == ("sample", 0, 1, 1) and changed.strength.constants() == (1, 0)


def test_a_classifier_by_specification_is_saved_with_its_temperatures(tmp_path):
    model = classifier()
    spec = tiny_spec("torchvision", tmp_path)
    guide = ClassifierGuidance(spec, reading=Reading(tau_joint=0.8, tau_marginal=0.4), labels=[3, 4])
    config = json.loads(json.dumps(to_config(guide)))
    again = from_config(config)[0]
    assert (again.reading.tau_joint, again.reading.tau_marginal) == (0.8, 0.4)
    assert torch.equal(draw(digits(), again), draw(digits(), guide))
    with pytest.raises(ValueError, match="cannot be saved"):
        to_config(ClassifierGuidance(model))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "ddim"}, "one of ddpm, edm, x0"),
        ({"look_at": "noise"}, "'estimate' or 'sample'"),
        ({"scale": -1.0}, "scale: finite numbers"),
        ({"tau_joint": float("nan")}, "tau_joint: finite numbers"),
        ({"chunk": 0}, "above 0"),
        ({"data_std": 0.0}, "above 0"),
        ({"labels": -1}, "class ids from 0, got -1"),
        ({"labels": [3, -2]}, "class ids from 0"),
        ({"classifier": classifier().train()}, r"call eval\(\) first"),
        ({"classifier": nn.Sequential(classifier().train()).eval().append(nn.Dropout())}, r"training mode \(1\)"),
        ({"classifier": lambda x: x, "softplus": 3.0}, "plain function; pass softplus=0"),
        ({"classifier": nn.Flatten().eval(), "softplus": 3.0}, "needs no smoothing"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ClassifierGuidance(**grouped(ClassifierGuidance, {"classifier": classifier()} | arguments))


def test_labels_of_another_number_are_refused():
    with pytest.raises(ValueError, match="3 class ids for 2 images"):
        draw(digits(), ClassifierGuidance(classifier(), labels=[1, 2, 3]))


@pytest.mark.parametrize("labels", [np.int64(3), torch.tensor(3), np.array([3]), torch.tensor([3]), [np.int64(3)]])
def test_labels_of_numpy_and_of_torch_are_plain_numbers(labels):
    assert ClassifierGuidance(classifier(), labels=labels).labels in (3, [3])


@pytest.mark.parametrize("labels", ["three", 1.5, [1.5], [True], -1, [0, -1], object()])
def test_labels_that_are_no_class_ids_are_refused(labels):
    with pytest.raises(ValueError, match="labels are class ids from 0, got"):
        ClassifierGuidance(classifier(), labels=labels)


@pytest.mark.parametrize("labels", [10, [3, 12]])
def test_a_class_that_the_classifier_has_not_is_refused(labels):
    with pytest.raises(ValueError, match="the classifier has 10 classes"):
        draw(digits(), ClassifierGuidance(classifier(), labels=labels), steps=1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_module_is_used_in_its_own_dtype_whatever_it_wraps_its_logits_in(dtype):
    class Wrapped(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

        def forward(self, x):
            assert x.dtype == dtype and not torch.is_autocast_enabled("cpu")
            return SimpleNamespace(logits=self.module(x))

    guide = ClassifierGuidance(Wrapped(classifier().to(dtype)).eval(), reading=Reading(softplus=0))
    pipe, expected = digits(), ClassifierGuidance(classifier(), reading=Reading(softplus=0))
    with torch.autocast("cpu", torch.bfloat16):  # the network's; the classifier keeps its own
        found, expected = draw(pipe, guide, steps=2), draw(pipe, expected, steps=2)
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.02)


def test_a_module_without_logits_is_named():
    model = nn.Sequential(classifier(), nn.Unflatten(1, (2, 5))).eval()
    with pytest.raises(ValueError, match=r"Sequential returned \(2, 2, 5\) for 2 images"):
        draw(digits(), ClassifierGuidance(model), steps=1)


def test_composes_with_plain_guidance_like_a_change_of_the_estimate():
    """After CFG the shift is that of CFG's own estimate."""
    pipe, model = digits(), classifier()
    pipe.scheduler = DDIMScheduler(clip_sample=False)
    guide = ClassifierGuidance(model, Strength(scale=2.0, gamma=0.0), Reading(softplus=0))
    kept = []

    def keep(step, proceed):
        kept.append((step, proceed(step)))
        return kept[-1][1]

    draw(pipe, [CFG(3.0), keep, guide, keep], weight=2.0, steps=2)
    for (step, before), (_, after) in zip(kept[::2], kept[1::2], strict=True):
        x0 = step.to_x0(before)
        variance = 0.25 * step.sigma**2 / (0.25 * step.alpha**2 + step.sigma**2)
        expected = 2.0 * variance * class_gradient(model, x0.clamp(-1, 1), torch.tensor([3, 7]))
        torch.testing.assert_close(step.to_x0(after) - x0, expected, rtol=1e-2, atol=1e-4 * x0.abs().max().item())


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("schedule", ["x0", "ddpm", "edm"])
def test_on_cuda(dtype, schedule):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    out = draw(
        digits().to("cuda", dtype), ClassifierGuidance(classifier(), Strength(schedule))
    )  # the classifier follows
    assert out.is_cuda and torch.isfinite(out).all()
