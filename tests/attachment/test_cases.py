"""Fifteen kinds of reports from people's work with attached guidance, A1 to A15: each has its right value here or in
the tests that are named."""

import copy
import importlib
import inspect
import sys
import textwrap

import diffusers
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, PNDMScheduler, StableDiffusion3Img2ImgPipeline
from diffusers import StableDiffusion3Pipeline as SD3

from diffusion_guidance import (
    CFG,
    RAAG,
    Callback,
    DiffIER,
    GuidanceInterval,
    MissingUnconditionalError,
    Trace,
    attach,
    to_config,
)

from ..gaussian import GaussianPipeline
from ..tiny import draw_dit, draw_sd3, tiny_dit, tiny_sd3
from ..tiny_families import FAMILIES
from ..tiny_families.image import unet


CASES = {
    "A1": (
        "attachment.test_run.test_a_loop_by_hand_is_guided_in_all_its_steps_after_a_shorter_call",
        "attachment.test_cases.test_pipelines_with_the_same_scheduler_are_not_guided",
    ),
    "A2": (
        "attachment.test_run.test_levels_of_a_part_of_the_grid_are_those_of_its_timesteps",
        "attachment.test_cases.test_a_run_that_ends_early_has_the_levels_of_its_timesteps",
    ),
    "A3": (
        "attachment.test_containers.test_flux_swaps_the_images_of_an_ip_adapter_in_one_dictionary",
        "attachment.test_containers.test_a_unet_pops_the_features_of_a_t2i_adapter_from_a_list",
        "attachment.test_containers.test_hunyuan_dit_pops_the_features_of_a_controlnet_from_a_list",
    ),
    "A4": (
        "attachment.test_run.test_a_sibling_with_the_same_network_is_not_guided",
        "attachment.test_run.test_a_call_of_the_network_that_is_not_the_pipelines_gets_no_answer",
        "attachment.test_run.test_threads_with_one_network_are_all_right_at_once",
        "attachment.test_cases.test_pipelines_with_the_same_scheduler_are_not_guided",
        "attachment.test_cases.test_a_preview_in_callback_on_step_end_gets_its_own_prediction",
    ),
    "A5": ("attachment.test_run.test_what_is_reused_is_of_the_sample_that_the_sampler_went_to",),
    "A6": ("core.test_order.test_a_callback_without_effect_is_refused_at_attach",),
    "A7": ("attachment.test_diffusers_caches.test_evaluations_of_callbacks_are_exact_and_disturb_nothing",),
    "A8": ("attachment.test_cases.test_a_subclass_that_orders_its_halves_otherwise_is_guided_right",),
    "A9": ("attachment.test_run.test_a_schedule_counts_the_users_steps_where_each_evaluates_twice",),
    "A10": (
        "attachment.test_cases.test_a_trace_keeps_runs_apart_and_steps_in_place",
        "methods.test_trace.test_rounding_does_not_look_like_a_change",
    ),
    "A11": ("attachment.test_run.test_copies_and_pickles_of_an_attached_pipelines_parts_are_plain",),
    "A12": (
        "attachment.test_run.test_detach_takes_off_what_nobody_kept",
        "attachment.test_run.test_an_attachment_that_is_interrupted_half_way_leaves_nothing",
        "attachment.test_interrupts.test_attaching_leaves_nothing",
        "attachment.test_cases.test_a_scheduler_that_cannot_be_stepped_leaves_nothing_and_a_new_one_is_attached_to",
    ),
    "A13": (
        "attachment.test_run.test_attachments_that_share_a_network_are_undone_in_any_order",
        "attachment.test_run.test_a_wrapper_put_on_meanwhile_stays",
    ),
    "A14": (
        "attachment.test_caches.test_a_forward_that_somebody_replaced_serves_the_pipeline_and_is_refused_when_evaluated_again",
    ),
    "A15": (
        "core.test_every_scheduler.test_levels_are_those_at_which_the_scheduler_adds_noise",
        "core.test_combine.test_numbers_of_numpy_and_of_torch_are_plain_numbers",
        "methods.classifier.test_guidance.test_labels_of_numpy_and_of_torch_are_plain_numbers",
        "attachment.test_families.test_truncated_steps_pass_unchanged",
        "attachment.test_cases.test_an_observer_runs_with_every_scheduler_in_daily_use",
        "attachment.test_cases.test_guidance_that_is_off_first_passes_over",
        "attachment.test_cases.test_the_missing_pass_is_explained_by_what_the_weight_is",
        "attachment.test_cases.test_a_callback_without_the_bases_constructor_is_one",
    ),
}
TINY = {tiny.name: tiny for tiny in FAMILIES}


@pytest.mark.parametrize("case", CASES)
def test_each_case_is_a_test(case):
    for name in CASES[case]:
        module, _, function = name.rpartition(".")
        assert callable(getattr(importlib.import_module(f"tests.{module}"), function))


def test_all_cases_are_there():
    assert list(CASES) == [f"A{number}" for number in range(1, 16)]


def test_pipelines_with_the_same_scheduler_are_not_guided():
    """A1, A4: made of `pipe.components`, or a copy. Its own steps are guided before and after."""
    pipe = tiny_sd3()
    others = [(draw_sd3, copy.copy(pipe)), (from_image, StableDiffusion3Img2ImgPipeline(**pipe.components))]
    plain = [draw(other) for draw, other in others]
    with attach(pipe, CFG(2.0)):
        guided = draw_sd3(pipe)
        for (draw, other), expected in zip(others, plain, strict=True):
            assert torch.equal(draw(other), expected)
            assert torch.equal(draw_sd3(pipe), guided)
    torch.testing.assert_close(guided, draw_sd3(pipe, weight=2.0))


def from_image(pipe):
    pipe.set_progress_bar_config(disable=True)
    return draw_sd3(pipe, image=torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1)), strength=0.7)


@pytest.mark.parametrize("kind", [DDIMScheduler, DDPMScheduler, PNDMScheduler])
def test_a_run_that_ends_early_has_the_levels_of_its_timesteps(kind):
    """A2: `denoising_end`, as for a base and a refiner. PNDM evaluates its second level twice."""
    tiny, levels, trace, twice = TINY["StableDiffusionXL"], [], Trace(), kind is PNDMScheduler
    pipe = tiny.pipe()
    pipe.scheduler = kind(skip_prk_steps=True) if twice else kind()
    with attach(pipe, lambda step, proceed: levels.append(float(step.sigma / step.alpha)) or proceed(step)):
        tiny.draw(pipe, steps=10, denoising_end=0.5)
    assert levels == pytest.approx([60.8, 25.7, *[25.7] * twice, 12.0, 6.2, 3.4], abs=0.05)
    with attach(pipe, [CFG(5.0), GuidanceInterval(0.5, 10), trace], skip=False):
        tiny.draw(pipe, steps=10, denoising_end=0.8)
    weights = trace.to_dict()["weight"][:, 0]
    torch.testing.assert_close(weights, torch.tensor([1.0] * (3 + twice) + [5.0] * 5), atol=1e-3, rtol=0)


def test_a_preview_in_callback_on_step_end_gets_its_own_prediction():
    """A4: not the answer that waits for the pipeline's next call."""
    pipe, seen, given = tiny_sd3(), [], {}
    hook = pipe.transformer.register_forward_pre_hook(lambda *called: given.update(called[2]), with_kwargs=True)
    plain = draw_sd3(pipe)
    hook.remove()
    with torch.no_grad():
        expected = pipe.transformer(**given)[0]

    def preview(pipe, index, timestep, tensors):
        seen.append(pipe.transformer(**given)[0])
        return {}

    with attach(pipe, DiffIER(1, 0.0, reuse=True)):
        torch.testing.assert_close(draw_sd3(pipe, callback_on_step_end=preview), plain, atol=1e-5, rtol=0)
    assert len(seen) == 3 and all(torch.equal(each, expected) for each in seen)


def reordered() -> type[SD3]:
    """StableDiffusion3 with the conditional half first, in its own source."""
    source = "def __call__" + textwrap.dedent(inspect.getsource(SD3.__call__)).partition("def __call__")[2]
    for halves in ("negative_prompt_embeds, prompt_embeds", "negative_pooled_prompt_embeds, pooled_prompt_embeds"):
        first, second = halves.split(", ")
        assert source.count(f"[{halves}]") == 1
        source = source.replace(f"[{halves}]", f"[{second}, {first}]")
    parts = "noise_pred_uncond, noise_pred_text = noise_pred"
    assert source.count(parts) == 1
    source = source.replace(parts, "noise_pred_text, noise_pred_uncond = noise_pred")
    names = dict(vars(sys.modules[SD3.__module__]))
    exec(source, names)
    return type("Reordered", (SD3,), {"__call__": torch.no_grad()(names["__call__"])})


def test_a_subclass_that_orders_its_halves_otherwise_is_guided_right():
    """A8: the family of its base class does not describe it, so it is inferred."""
    pipe, trace = reordered()(**tiny_sd3().components), Trace()
    pipe.set_progress_bar_config(disable=True)
    plain = draw_sd3(pipe)
    assert torch.equal(plain, draw_sd3(tiny_sd3()))
    with attach(pipe, [CFG(5.0), trace]) as attachment:
        assert torch.equal(draw_sd3(pipe), plain)
    assert attachment.family.cond_first and attachment.family.pipelines == ("Reordered",)
    torch.testing.assert_close(trace.to_dict()["weight"], torch.full((3, 2), 5.0), atol=1e-3, rtol=0)


def test_a_trace_keeps_runs_apart_and_steps_in_place():
    """A10: a window from the middle, runs of 4 and 10 steps; and a value that some rows lack."""
    pipe, trace = tiny_sd3(), Trace(start=0.5)
    with attach(pipe, trace):
        draw_sd3(pipe, steps=4)
        draw_sd3(pipe, steps=10)
    assert [trace.to_dict(run)["step"].tolist() for run in (0, 1)] == [[2, 3], [5, 6, 7, 8, 9]]
    tiny, trace = TINY["Lumina2"], Trace()
    pipe = tiny.pipe()
    with attach(pipe, trace):
        tiny.draw(pipe, steps=4, cfg_trunc_ratio=0.5)
    missing = trace.to_dict()["ratio"].isnan().all(1)
    assert trace.to_dict()["step"].tolist() == [0, 1, 2, 3] and missing.any() and not missing.all()


def test_a_scheduler_that_cannot_be_stepped_leaves_nothing_and_a_new_one_is_attached_to():
    """A12."""
    pipe = tiny_dit()
    plain, right = draw_dit(pipe), pipe.scheduler
    pipe.scheduler = Bare()
    with pytest.raises(ValueError, match="no scheduler with set_timesteps and step"):
        attach(pipe, RAAG())
    assert not pipe.transformer._forward_hooks
    pipe.scheduler = right
    with attach(pipe, CFG(4.0)):
        assert torch.equal(draw_dit(pipe), plain)
        pipe.scheduler = DDIMScheduler(beta_schedule="scaled_linear")
        with pytest.raises(RuntimeError, match="scheduler was replaced while guidance was attached; attach again"):
            draw_dit(pipe)
    plain = draw_dit(pipe)
    with attach(pipe, CFG(4.0)):
        assert torch.equal(draw_dit(pipe), plain)


DAILY = ("TCD", "EDMEuler", "SASolver", "KDPM2AncestralDiscrete", "DPMSolverSDE", "IPNDM", "DPMSolverMultistep")


@pytest.mark.parametrize("name", DAILY)
def test_an_observer_runs_with_every_scheduler_in_daily_use(name):
    """A15: also DPM++ SDE Karras."""
    karras = {"use_karras_sigmas": True, "algorithm_type": "sde-dpmsolver++"} if name == "DPMSolverMultistep" else {}
    tiny, trace = TINY["StableDiffusion"], Trace()
    pipe = tiny.pipe()
    pipe.scheduler = getattr(diffusers, f"{name}Scheduler")(**karras)
    plain = tiny.draw(pipe, steps=4)
    with attach(pipe, trace):
        assert torch.equal(tiny.draw(pipe, steps=4), plain)
    angle = torch.atan2(trace.to_dict()["sigma"], trace.to_dict()["alpha"])
    assert len(angle) >= 4 and (angle.diff() <= 0).all() and angle[0] > 1 > angle[-1]


class LatePipeline(GaussianPipeline):
    """Makes the unconditional pass in the second half of its steps alone."""

    do_classifier_free_guidance, guidance_scale = True, 2.0

    @torch.no_grad()
    def __call__(self, labels, latents, steps: int = 4):
        labels = torch.as_tensor(labels)
        self.scheduler.set_timesteps(steps)
        for i, t in enumerate(self.scheduler.timesteps):
            both = torch.cat([torch.full_like(labels, len(self.transformer.means)), labels])
            guided = 2 * i >= steps
            x = torch.cat([latents, latents]) if guided else latents
            v = self.transformer(hidden_states=x, timestep=t.expand(len(x)), labels=both if guided else labels)[0]
            if guided:
                uncond, cond = v.chunk(2)
                v = uncond + 2.0 * (cond - uncond)
            latents = self.scheduler.step(v, t, latents, return_dict=False)[0]
        return latents


def test_guidance_that_is_off_first_passes_over():
    """A15: as where it is off last."""
    generator, trace = torch.Generator().manual_seed(0), Trace()
    pipe = LatePipeline(torch.randn(3, 4, generator=generator))
    called = [0, 2], torch.randn(2, 4, generator=generator)
    plain = pipe(*called)
    with attach(pipe, CFG(2.0)):
        torch.testing.assert_close(pipe(*called), plain, atol=1e-6, rtol=0)
    with attach(pipe, [CFG(3.0), trace]):
        assert (pipe(*called) - plain).abs().max() > 1e-4
    weights = trace.to_dict()["weight"]
    assert weights[:2].isnan().all()
    assert weights[2].max() == pytest.approx(3.0, abs=1e-3)  # 1 where both predictions are equal


def test_the_missing_pass_is_explained_by_what_the_weight_is():
    """A15: of a network that takes its weight as an input, at weight 8."""
    tiny = TINY["StableDiffusion"]
    pipe = tiny.pipe()
    pipe.unet = unet(time_cond_proj_dim=8).eval()
    said = "ran without that pass although its guidance_scale is 8; its network may take guidance as an input"
    with attach(pipe, RAAG()), pytest.raises(MissingUnconditionalError, match=said):
        tiny.draw(pipe, guidance_scale=8.0)


class Bare(Callback):
    def __init__(self):
        self.seen = 0

    def guide(self, step, proceed):
        self.seen += 1
        return proceed(step)


def test_a_callback_without_the_bases_constructor_is_one():
    """A15."""
    bare, pipe = Bare(), tiny_sd3()
    plain = draw_sd3(pipe)
    with attach(pipe, bare):
        assert torch.equal(draw_sd3(pipe), plain)
    assert bare.seen == 3 and repr(bare) == "Bare()"
    with pytest.raises(ValueError, match="arguments of Bare are not known: decorate its __init__ with"):
        to_config(bare)
