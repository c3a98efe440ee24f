"""Every family, on a tiny pipeline of the real class."""

import dataclasses
import functools
from contextlib import nullcontext

import diffusers
import pytest
import torch

from diffusion_guidance import CFG, RAAG, Family, MissingUnconditionalError, attach, register_family
from diffusion_guidance.attachment.families import find_family, formulas, registry
from diffusion_guidance.attachment.guiding import Guiding

from ..nosync import NoSynchronisation
from ..tiny_families import FAMILIES, VARIANTS, Tiny, relative_error


EACH_FAMILY = pytest.mark.parametrize("tiny", FAMILIES, ids=lambda tiny: tiny.name)
EACH = pytest.mark.parametrize("tiny", FAMILIES + VARIANTS, ids=lambda tiny: tiny.name)
BY_NAME = {tiny.name: tiny for tiny in FAMILIES + VARIANTS}


@functools.cache
def pipe_of(tiny: Tiny):
    return tiny.pipe()


@functools.cache
def plain_draw(tiny: Tiny) -> torch.Tensor:
    return tiny.draw(pipe_of(tiny))


def attached(tiny: Tiny, guidance, pipe=None, **kwargs) -> torch.Tensor:
    pipe = pipe or pipe_of(tiny)
    with attach(pipe, guidance):
        return tiny.draw(pipe, **kwargs)


def own_weight(step):
    return step.pipeline_weight


@EACH
def test_attached_cfg_equals_the_pipeline(tiny):
    plain = plain_draw(tiny)
    assert relative_error(tiny.draw(pipe_of(tiny), guided=False), plain) > 1e-3
    assert torch.equal(attached(tiny, []), plain)
    error = relative_error(attached(tiny, CFG(weight=tiny.weight)), plain)
    assert error == 0 if tiny.exact else error < 1e-6


@EACH_FAMILY
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attached_cfg_equals_the_pipeline_in_half_precision(tiny, dtype):
    pipe = tiny.pipe(dtype)
    plain = tiny.draw(pipe, steps=2)
    if not plain.isfinite().all():
        pytest.skip("the random network overflows")
    result = attached(tiny, CFG(weight=tiny.weight), pipe, steps=2)
    assert result.dtype == plain.dtype
    # Where the formula differs (Z-Image) a last bit of a half-precision input may differ.
    assert torch.equal(result, plain) if tiny.exact else relative_error(result, plain) < 1e-2


@EACH
def test_the_pipelines_own_combination_is_ignored(tiny):
    pipe = pipe_of(tiny)
    with attach(pipe, CFG(weight=tiny.weight), verify=False):
        step = pipe.scheduler.step

        @functools.wraps(step)
        def without_the_output(model_output, *args, **kwargs):
            return step(torch.full_like(model_output, torch.nan), *args, **kwargs)

        pipe.scheduler.step = without_the_output
        try:
            result = tiny.draw(pipe)
        finally:
            pipe.scheduler.step = step
    assert relative_error(result, plain_draw(tiny)) < 1e-6


def raag_in_the_network(tiny: Tiny, pipe, w_max: float, alpha: float):
    """RAAG without guidance: hooks that change the network's unconditional output u to u', such that the pipeline's own
    formula, u' + w (c - u'), gives RAAG's prediction; whatever the pipeline does besides, it does itself."""
    waiting = []

    def changed(cond, uncond, channels):
        c, u = cond[:, :channels].double(), uncond[:, :channels].double()
        ratio = torch.linalg.vector_norm((c - u).flatten(1), dim=1) / torch.linalg.vector_norm(u.flatten(1), dim=1)
        weight = (1 + (w_max - 1) * torch.exp(-alpha * ratio)).reshape(-1, *[1] * (c.ndim - 1))
        guided = u + weight * (c - u)
        other = (tiny.weight * c - guided) / (tiny.weight - 1)
        return torch.cat([other.to(uncond.dtype), uncond[:, channels:]], 1)

    def hook(module, args, kwargs, output):
        given = args[0] if args else kwargs["hidden_states"]
        if isinstance(given, list):
            halves = torch.stack(output[0]).chunk(2)
            return ([*halves[0], *changed(*halves, given[0].shape[0])],)
        if find_family(pipe).calls == 2:
            if not waiting:
                waiting.append(output[0])
                return output
            return (changed(waiting.pop(), output[0], given.shape[1]),)
        halves = output[0].chunk(2)
        cond, uncond = halves if tiny.cond_first else reversed(halves)
        other = changed(cond, uncond, given.shape[1])
        result = torch.cat([cond, other] if tiny.cond_first else [other, cond])
        return (result,) if isinstance(output, tuple) else type(output)(sample=result)

    networks = [pipe.components.get(name) for name in ("unet", "transformer", "transformer_2")]
    return [network.register_forward_hook(hook, with_kwargs=True) for network in networks if network is not None]


@EACH_FAMILY
def test_raag_equals_a_reimplementation_in_the_loop(tiny):
    pipe = pipe_of(tiny)
    handles = raag_in_the_network(tiny, pipe, w_max=12.0, alpha=6.0)
    try:
        expected = tiny.draw(pipe)
    finally:
        for handle in handles:
            handle.remove()
    assert relative_error(expected, plain_draw(tiny)) > 1e-3
    assert relative_error(attached(tiny, RAAG(w_max=12.0, alpha=6.0)), expected) < 1e-5


@EACH
def test_the_network_evaluated_again_at_the_same_point_says_the_same(tiny):
    seen = []

    def again(step, proceed):
        cond, uncond = step.denoise(step.sample, step.timestep)
        assert torch.equal(cond, step.cond) and torch.equal(uncond, step.uncond)
        moved = step.at(step.sample + 0.5, timestep=step.timestep)
        assert (moved.cond - cond).abs().max() > 1e-4 and (moved.uncond - uncond).abs().max() > 1e-4
        if step.index == 0:
            earlier = step.at(step.sample, timestep=step.timestep * 0.7)
            assert (earlier.cond - cond).abs().max() > 1e-6
        seen.append(step)
        return proceed(step)

    assert torch.equal(attached(tiny, again), plain_draw(tiny))
    assert seen


@pytest.mark.parametrize("argument", ["sample", "timestep"])
def test_a_network_is_not_evaluated_elsewhere_where_an_argument_was_not_found(argument):
    tiny = BY_NAME["StableDiffusion"]
    pipe = pipe_of(tiny)
    family = dataclasses.replace(find_family(pipe), **{argument: None})
    with (
        pytest.raises(ValueError, match=f"the {argument} was not found.*{argument}=NAME"),
        attach(pipe, lambda step, proceed: step.at(step.sample + 1, timestep=step.timestep).cond, family=family),
    ):
        tiny.draw(pipe)


@EACH_FAMILY
def test_the_last_step_ends_at_the_denoised_estimate(tiny):
    """So the predictions are in the space, and the sign, that `prediction_type` says."""
    pipe, estimates, results = pipe_of(tiny), [], []

    def estimate(step, proceed):
        prediction = proceed(step)
        estimates.append(step.to_x0(prediction))
        return prediction

    with attach(pipe, [CFG(weight=tiny.weight), estimate], post_process=False):
        step = pipe.scheduler.step
        pipe.scheduler.step = functools.wraps(step)(lambda *a, **k: results.append(step(*a, **k)) or results[-1])
        try:
            tiny.draw(pipe)
        finally:
            pipe.scheduler.step = step
    last = results[-1][0][: len(estimates[-1])]  # DiT steps its batch twice over
    assert relative_error(estimates[-1], last) < 1e-5


@EACH_FAMILY
def test_nothing_waits_for_the_device(tiny, monkeypatch):
    """Except in the first step, where a scheduler looks for its place on the grid, and the family is checked."""

    def again(step, proceed):
        step.denoise(step.sample, step.timestep)
        return proceed(step)

    pipe, watched = pipe_of(tiny), []
    guide = Guiding.guide

    def watch(*args):
        watched.append(args)
        with NoSynchronisation() if len(watched) > 1 else nullcontext():
            return guide(*args)

    monkeypatch.setattr(Guiding, "guide", watch)
    with attach(pipe, [RAAG(), again]):
        tiny.draw(pipe)
    assert len(watched) == 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@EACH_FAMILY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attached_cfg_equals_the_pipeline_on_cuda(tiny, dtype):
    pipe = tiny.pipe(dtype).to("cuda")
    plain = tiny.draw(pipe)
    result = attached(tiny, CFG(weight=tiny.weight), pipe)
    assert torch.equal(result, plain) if tiny.exact else relative_error(result, plain) < 1e-2


# What the pipeline does after its combination.

POST = [
    ("StableDiffusion", {"guidance_rescale": 0.7}, {}),
    ("StableDiffusionXL", {"guidance_rescale": 0.7}, {}),
    ("LTX", {"guidance_rescale": 0.7}, {}),
    (
        "StableDiffusion3",
        {"skip_guidance_layers": [0], "skip_layer_guidance_start": -0.1, "skip_layer_guidance_stop": 0.5},
        {},
    ),
    ("QwenImage", {}, None),
    ("Lumina2", {}, {"cfg_normalization": False}),
    ("Z-Image", {"cfg_normalization": 0.9}, {}),
]


@pytest.mark.parametrize(("name", "on", "off"), POST, ids=[name for name, *_ in POST])
def test_post_processing_is_done_once_and_can_be_left_out(name, on, off):
    tiny = BY_NAME[name]
    pipe = pipe_of(tiny)
    processed = tiny.draw(pipe, **on)
    assert torch.equal(attached(tiny, lambda step, proceed: proceed(step), **on), processed)
    assert relative_error(attached(tiny, CFG(weight=tiny.weight), **on), processed) < 1e-6
    # A prediction that equals the pipeline's, but is not the same tensor.
    assert relative_error(attached(tiny, lambda step, proceed: proceed(step).clone(), **on), processed) < 1e-5
    with attach(pipe, CFG(weight=tiny.weight), post_process=False):
        unprocessed = tiny.draw(pipe, **on)
    assert relative_error(unprocessed, processed) > 1e-3
    if off is not None:
        assert relative_error(attached(tiny, CFG(weight=tiny.weight), **off), tiny.draw(pipe, **off)) < 1e-6
        assert relative_error(unprocessed, tiny.draw(pipe, **off)) < 1e-6


def test_the_combination_that_callbacks_see_is_that_before_post_processing():
    for name, on, _ in POST:
        tiny = BY_NAME[name]

        def compare(step, proceed, tiny=tiny):
            expected = step.uncond + tiny.weight * (step.cond - step.uncond)
            assert relative_error(proceed(step), expected) < 1e-5
            return proceed(step)

        attached(tiny, compare, **on)


# What families tell of their own.


@EACH_FAMILY
def test_the_weight_of_the_pipeline_is_known_or_recovered(tiny):
    def check(step, proceed):
        weight = torch.as_tensor(step.pipeline_weight)
        torch.testing.assert_close(weight, torch.full_like(weight, tiny.weight), rtol=1e-4, atol=0)
        return proceed(step)

    attached(tiny, check)


def test_the_two_networks_of_wan_have_weights_of_their_own():
    tiny, weights = BY_NAME["Wan 2.2"], []

    def read(step, proceed):
        weights.append(step.pipeline_weight)
        return proceed(step)

    pipe = pipe_of(tiny)
    kwargs = {"guidance_scale_2": 2.0, "steps": 5}
    attached(tiny, read, **kwargs)
    assert sorted(set(weights)) == [2.0, 5.0]
    assert torch.equal(attached(tiny, CFG(weight=own_weight), **kwargs), tiny.draw(pipe, **kwargs))


def test_the_changing_weight_of_cogvideox():
    tiny = BY_NAME["CogVideoX"]
    plain = tiny.draw(pipe_of(tiny), use_dynamic_cfg=True)
    assert torch.equal(attached(tiny, CFG(weight=own_weight), use_dynamic_cfg=True), plain)


@pytest.mark.parametrize(
    ("name", "kwargs"), [("Lumina2", {"cfg_trunc_ratio": 0.5}), ("Z-Image", {"cfg_truncation": 0.2})]
)
def test_truncated_steps_pass_unchanged(name, kwargs):
    tiny, truncated = BY_NAME[name], []

    def watch(step, proceed):
        truncated.append(step.truncated)
        return proceed(step)

    plain = tiny.draw(pipe_of(tiny), steps=4, **kwargs)
    assert relative_error(attached(tiny, [CFG(weight=tiny.weight), watch], steps=4, **kwargs), plain) < 1e-6
    assert not truncated[0] and truncated[-1]
    attached(tiny, RAAG(), steps=4, **kwargs)


@pytest.mark.parametrize(
    "scheduler",
    [
        diffusers.HeunDiscreteScheduler,
        diffusers.KDPM2DiscreteScheduler,
        diffusers.EulerAncestralDiscreteScheduler,
        diffusers.UniPCMultistepScheduler,
        diffusers.PNDMScheduler,
    ],
)
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_other_schedulers(scheduler, prediction_type):
    """Second-order ones call the network, and step, twice for each level."""
    tiny = BY_NAME["StableDiffusion"]
    settings = {"prediction_type": prediction_type, "beta_schedule": "scaled_linear", "steps_offset": 1}
    if scheduler is diffusers.PNDMScheduler:
        settings["skip_prk_steps"] = True
    pipe = diffusers.StableDiffusionPipeline(
        **pipe_of(tiny).components | {"scheduler": scheduler(**settings)}, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    plain, errors = tiny.draw(pipe), []

    def again(step, proceed):
        assert step.prediction_type == prediction_type
        for other in (step.at(step.sample, index=step.grid_index), step.at(step.sample, timestep=step.timestep)):
            errors.append(relative_error(other.cond, step.cond))
        return proceed(step)

    assert torch.equal(attached(tiny, CFG(weight=tiny.weight), pipe), plain)
    assert torch.equal(attached(tiny, again, pipe), plain)
    assert len(errors) >= 6 and max(errors) < 1e-6


def test_flow_match_heun():
    tiny = BY_NAME["StableDiffusion3"]
    components = pipe_of(tiny).components | {"scheduler": diffusers.FlowMatchHeunDiscreteScheduler()}
    pipe = diffusers.StableDiffusion3Pipeline(**components)
    pipe.set_progress_bar_config(disable=True)
    assert torch.equal(attached(tiny, CFG(weight=tiny.weight), pipe), tiny.draw(pipe))


# Errors that say what to do.


@EACH_FAMILY
def test_without_the_unconditional_pass_the_error_names_the_argument(tiny):
    argument = next(iter(tiny.scale))
    with pytest.raises(MissingUnconditionalError, match=f"set {argument} above"):
        attached(tiny, RAAG(), guided=False)
    assert torch.equal(attached(tiny, [], guided=False), tiny.draw(pipe_of(tiny), guided=False))


def test_flux_needs_a_negative_prompt_besides_the_scale():
    tiny = BY_NAME["Flux"]
    without = {"negative_prompt_embeds": None, "negative_pooled_prompt_embeds": None}
    with pytest.raises(MissingUnconditionalError, match="true_cfg_scale above 1 and negative_prompt"):
        attached(tiny, RAAG(), **without)


def test_a_use_in_which_only_a_part_is_stepped_is_refused():
    """As HunyuanVideo's image-to-video with replaced tokens, which steps all frames but the first."""
    tiny = BY_NAME["HunyuanVideo"]
    pipe = pipe_of(tiny)
    with attach(pipe, RAAG()):
        step = pipe.scheduler.step
        pipe.scheduler.step = lambda output, t, sample, **kwargs: step(output[:, :, 1:], t, sample[:, :, 1:], **kwargs)
        try:
            with pytest.raises(ValueError, match="family of HunyuanVideoPipeline is wrong"):
                tiny.draw(pipe)
        finally:
            pipe.scheduler.step = step


class MadeUpPipeline:
    """A sampler of one's own: one call of a network with both halves, conditional first, and its own argument names."""

    def __init__(self, network, scheduler):
        self.network, self.scheduler = network, scheduler

    @torch.no_grad()
    def __call__(self, scale: float = 3.0, steps: int = 3, passes: int = 1, halves: bool = True) -> torch.Tensor:
        self.scheduler.set_timesteps(steps)
        sample = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
        for t in self.scheduler.timesteps:
            for _ in range(passes):
                condition = torch.tensor([1.0, 1.0, 0.0, 0.0] if halves else [1.0, 1.0])[:, None]
                output = self.network(x=torch.cat([sample] * (2 if halves else 1)), time=t, condition=condition)[0]
            if halves:
                cond, uncond = output.chunk(2)
                output = uncond + scale * (cond - uncond)
            sample = self.scheduler.step(output, t, sample, return_dict=False)[0]
        return sample


class MadeUpNetwork(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(6, 4)

    def forward(self, x, time, condition):
        time = time.float().reshape(-1, 1).expand(len(x), 1) / 1000
        return (self.layer(torch.cat([x, time, condition], 1)),)


@pytest.fixture
def made_up(monkeypatch):
    monkeypatch.setattr(registry, "_FAMILIES", list(registry._FAMILIES))
    torch.manual_seed(0)
    return MadeUpPipeline(MadeUpNetwork(), diffusers.FlowMatchEulerDiscreteScheduler())


def test_a_pipeline_without_a_family_has_it_inferred(made_up):
    plain = made_up()
    with attach(made_up, CFG(weight=3.0)) as attachment:
        assert torch.equal(made_up(), plain)
        family = attachment.family
        assert torch.equal(made_up(), plain) and attachment.family is family
    facts = (family.denoiser, family.sample, family.timestep, family.calls, family.cond_first)
    assert facts == ("network", "x", "time", 1, True)
    with attach(made_up, RAAG()):
        assert not torch.equal(made_up(), plain)
        with pytest.raises(MissingUnconditionalError):
            made_up(halves=False)


@pytest.mark.parametrize("name", ["StableDiffusion ControlNet", "Sana ControlNet"])
def test_what_a_further_network_returned_does_not_count_once_the_family_is_inferred(name, monkeypatch):
    """ControlNets and adapters run before the denoiser, and return lists."""
    tiny = BY_NAME[name]
    plain = plain_draw(tiny)
    monkeypatch.setattr(registry, "_FAMILIES", [])
    assert relative_error(attached(tiny, CFG(weight=tiny.weight)), plain) < 1e-6


def test_a_family_is_registered_in_a_few_lines(made_up):
    register_family(
        Family(
            pipelines=("MadeUpPipeline",),
            denoiser="network",
            sample="x",
            timestep="time",
            enable="halves=True",
            cond_first=True,
        )
    )
    plain = made_up()
    with attach(made_up, CFG(weight=3.0)):
        assert torch.equal(made_up(), plain)
    with attach(made_up, RAAG()):
        assert not torch.equal(made_up(), plain)
        with pytest.raises(MissingUnconditionalError, match="set halves=True"):
            made_up(halves=False)
        with pytest.raises(RuntimeError, match=r"called more than 1 time\(s\).*calls, aside"):
            made_up(passes=2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"denoiser": "netwrok"}, "MadeUpPipeline has no network 'netwrok'"),
        ({"sample": "sample"}, "called without 'sample'.* it was called with x, time, condition"),
        ({"timestep": "t"}, "called without 't'"),
    ],
)
def test_a_family_that_does_not_fit_is_told_what(made_up, wrong, message):
    facts = {"denoiser": "network", "sample": "x", "timestep": "time", "enable": "halves=True"} | wrong
    register_family(Family(pipelines=("MadeUpPipeline",), **facts))
    with pytest.raises((ValueError, RuntimeError), match=message), attach(made_up, RAAG()):
        made_up()


def test_a_family_with_post_processing_tells_its_weight():
    with pytest.raises(ValueError, match="needs weight"):
        Family(pipelines=(), denoiser="", enable="", post_processing=formulas.TOKEN_NORM)


def test_what_the_weight_costs_is_paid_where_it_is_asked_for(monkeypatch):
    tiny, asked = BY_NAME["QwenImage"], []
    family = find_family(pipe_of(tiny))

    def weight(evaluation):
        asked.append(evaluation)
        return family.weight(evaluation)

    monkeypatch.setattr(registry, "_FAMILIES", [dataclasses.replace(family, weight=weight), *registry._FAMILIES])
    attached(tiny, RAAG())
    assert len(asked) == 1  # by the check in the first step
    assert torch.equal(attached(tiny, lambda step, proceed: proceed(step)), plain_draw(tiny))
    assert len(asked) == 5


def test_a_family_with_two_denoiser_calls_only():
    with pytest.raises(ValueError, match="once or twice"):
        Family(pipelines=(), denoiser="", sample="", timestep="", enable="", calls=3)
