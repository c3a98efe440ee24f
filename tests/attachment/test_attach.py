import copy
import functools
import inspect

import pytest
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler

from diffusion_guidance import CFG, RAAG, GuidanceInterval, MissingUnconditionalError, Trace, attach

from ..nosync import NoSynchronisation
from ..tiny import PROMPTS, draw_dit, draw_sd3, tiny_dit, tiny_sd3


@pytest.fixture(scope="module")
def sd3():
    return tiny_sd3()


@pytest.fixture(scope="module")
def dit():
    return tiny_dit()


def state(pipe) -> tuple:
    """Everything of a pipeline that attaching touches."""
    hooks = (pipe.transformer._forward_hooks, pipe.transformer._forward_hooks_with_kwargs)
    methods = {name: value for name, value in vars(pipe.scheduler).items() if callable(value)}
    return *map(dict, hooks), methods, set(vars(pipe.scheduler)), set(vars(pipe))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("prompts", [PROMPTS[:1], PROMPTS])
def test_plain_cfg_equals_the_unhooked_sd3_to_the_bit(dtype, prompts):
    pipe = tiny_sd3(dtype)
    plain = draw_sd3(pipe, prompts)
    with attach(pipe, CFG(weight=5.0)):
        assert torch.equal(draw_sd3(pipe, prompts), plain)
    assert plain.dtype == dtype and plain.float().std() > 0.1
    with attach(pipe, CFG(weight=4.0)):
        assert not torch.equal(draw_sd3(pipe, prompts), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("learn_sigma", [True, False])
@pytest.mark.parametrize("classes", [[3], [3, 7, 1]])
def test_plain_cfg_equals_the_unhooked_dit_to_the_bit(dtype, learn_sigma, classes):
    pipe = tiny_dit(dtype, learn_sigma=learn_sigma)
    plain = draw_dit(pipe, classes)
    with attach(pipe, CFG(weight=4.0)):
        assert torch.equal(draw_dit(pipe, classes), plain)


def test_a_stochastic_sampler_draws_the_same_noise():
    pipe = tiny_dit(scheduler=DDPMScheduler())
    torch.manual_seed(0)  # DiT passes no generator to its scheduler
    plain = draw_dit(pipe)
    torch.manual_seed(0)
    with attach(pipe, CFG(weight=4.0)):
        assert torch.equal(draw_dit(pipe), plain)


def test_the_result_is_that_of_the_formula(sd3):
    """RAAG against the loop written out with the stock classes alone."""
    embeds, negative, pooled, negative_pooled = sd3.encode_prompt(PROMPTS, None, None, max_sequence_length=2)
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    scheduler = FlowMatchEulerDiscreteScheduler.from_config(sd3.scheduler.config)
    scheduler.set_timesteps(3)
    x = latents
    for t in scheduler.timesteps:
        with torch.no_grad():
            uncond, cond = sd3.transformer(
                hidden_states=torch.cat([x, x]),
                timestep=t.expand(4),
                encoder_hidden_states=torch.cat([negative, embeds]),
                pooled_projections=torch.cat([negative_pooled, pooled]),
                return_dict=False,
            )[0].chunk(2)
        for i in range(2):
            ratio = (cond[i] - uncond[i]).norm() / uncond[i].norm()
            cond[i] = uncond[i] + (1 + 9 * torch.exp(-8 * ratio)) * (cond[i] - uncond[i])
        x = scheduler.step(cond, t, x, return_dict=False)[0]
    with attach(sd3, RAAG(w_max=10, alpha=8)):
        assert (draw_sd3(sd3, latents=latents) - x).abs().max() < 1e-5


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_everything_is_restored(sd3, error):
    plain, before = draw_sd3(sd3), state(sd3)

    def fail(step, proceed):
        if error and step.index == 1:
            raise error("stop")
        return proceed(step)

    try:
        with attach(sd3, fail):
            assert state(sd3) != before
            draw_sd3(sd3)
    except (ValueError, KeyboardInterrupt) as raised:
        assert type(raised) is error
    assert state(sd3) == before
    assert torch.equal(draw_sd3(sd3), plain)


def test_detach_without_a_with_block_and_twice(sd3):
    before = state(sd3)
    attachment = attach(sd3, RAAG())
    attachment.detach()
    attachment.detach()
    assert state(sd3) == before


def test_a_method_that_somebody_else_had_replaced_is_put_back(sd3):
    mine = functools.wraps(sd3.scheduler.step)(lambda *args, step=sd3.scheduler.step, **kwargs: step(*args, **kwargs))
    sd3.scheduler.step = mine
    try:
        with attach(sd3, RAAG()):
            assert sd3.scheduler.step is not mine
        assert sd3.scheduler.step is mine
    finally:
        del sd3.scheduler.step


def test_nested_attachment_is_refused(sd3):
    with attach(sd3, RAAG()), pytest.raises(RuntimeError, match="pass all callbacks in one list"):
        attach(sd3, RAAG())
    with attach(sd3, RAAG()):  # and the refusal left nothing behind
        draw_sd3(sd3)


def test_one_attachment_serves_many_calls(sd3):
    plain, longer = draw_sd3(sd3), draw_sd3(sd3, steps=5)
    indices = []

    def look(step, proceed):
        indices.append((step.index, step.total))
        return proceed(step)

    with attach(sd3, [CFG(weight=5.0), look]):
        assert torch.equal(draw_sd3(sd3), plain)
        assert torch.equal(draw_sd3(sd3, steps=5), longer)
        assert torch.equal(draw_sd3(sd3), plain)
    one, two = [(i, 3) for i in range(3)], [(i, 5) for i in range(5)]
    assert indices == one + two + one


def test_a_run_that_broke_off_does_not_disturb_the_next(sd3):
    plain, broken = draw_sd3(sd3), [True]

    def fail_once(step, proceed):
        if broken and step.index == 1:
            broken.clear()
            raise RuntimeError("stop")
        return proceed(step)

    with attach(sd3, [CFG(weight=5.0), fail_once]):
        with pytest.raises(RuntimeError, match="stop"):
            draw_sd3(sd3)
        assert torch.equal(draw_sd3(sd3), plain)


def test_the_pipelines_own_combination_is_ignored(sd3):
    """With the pipeline's weight NaN, whatever it combines is NaN."""
    plain = draw_sd3(sd3)
    with attach(sd3, CFG(weight=5.0), verify=False):
        sd3.__class__, original = (
            type("Poisoned", (type(sd3),), {"guidance_scale": property(lambda _: float("nan"))}),
            sd3.__class__,
        )
        try:
            sd3.__class__.do_classifier_free_guidance = property(lambda _: True)
            assert torch.equal(draw_sd3(sd3), plain)
        finally:
            sd3.__class__ = original


def test_the_replaced_step_shows_the_signature_of_the_original(dit):
    """Pipelines look into it to decide whether to pass `eta` and `generator`."""
    original = inspect.signature(dit.scheduler.step)
    assert "eta" in original.parameters
    with attach(dit, RAAG()):
        assert inspect.signature(dit.scheduler.step) == original
        assert dit.scheduler.step.__name__ == "step"


def test_arguments_are_bound_by_name_not_position(sd3):
    """As CogVideoX's DPM scheduler needs: other arguments stand between model_output and sample."""

    class Reordered(FlowMatchEulerDiscreteScheduler):
        def step(self, model_output, history, timestep, timestep_back, sample, return_dict=True):
            return super().step(model_output, timestep, sample, return_dict=return_dict)

    stock, plain = sd3.scheduler, draw_sd3(sd3)
    sd3.scheduler = Reordered.from_config(stock.config)
    call = sd3.scheduler.step
    try:
        with attach(sd3, CFG(weight=5.0)):
            attached = sd3.scheduler.step
            # The pipeline calls (output, t, sample); a pipeline of that scheduler would pass all five by position.
            sd3.scheduler.step = lambda output, t, sample, **kwargs: attached(output, None, t, None, sample, **kwargs)
            assert torch.equal(draw_sd3(sd3), plain)
            sd3.scheduler.step = attached
        assert sd3.scheduler.step == call
    finally:
        sd3.scheduler = stock


def test_a_step_that_somebody_wrapped_is_called_as_the_pipeline_calls_it(sd3):
    """The wrapper shows no names of arguments, and may count on their places."""

    class Watched(FlowMatchEulerDiscreteScheduler):
        times = ()

        def step(self, *args, **kwargs):
            self.times = (*self.times, float(args[1]))
            return super().step(*args, **kwargs)

    stock, plain = sd3.scheduler, draw_sd3(sd3)
    sd3.scheduler = Watched.from_config(stock.config)
    try:
        with attach(sd3, CFG(weight=5.0)):
            assert torch.equal(draw_sd3(sd3), plain)
        assert list(sd3.scheduler.times) == sd3.scheduler.timesteps.tolist()
    finally:
        sd3.scheduler = stock


def test_a_deep_copy_of_the_scheduler_is_not_attached(sd3):
    with attach(sd3, RAAG()):
        clone = copy.deepcopy(sd3.scheduler)
    clone.set_timesteps(4)
    sample = torch.ones(1, 4, 8, 8)
    clone.step(torch.ones_like(sample), clone.timesteps[0], sample)
    assert clone.step.__self__ is clone and clone.step_index == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_scheduler_gets_the_dtype_of_the_pipeline(dtype):
    pipe = tiny_sd3(dtype)
    with attach(pipe, lambda step, proceed: proceed(step).double()):
        assert draw_sd3(pipe).dtype == dtype


def test_without_the_unconditional_pass_the_error_names_the_argument(sd3, dit):
    for pipe, draw in ((sd3, draw_sd3), (dit, draw_dit)):
        before = state(pipe)
        with pytest.raises(MissingUnconditionalError, match="set guidance_scale above 1"), attach(pipe, RAAG()):
            draw(pipe, weight=1.0)
        assert state(pipe) == before


def test_an_observer_needs_no_unconditional_pass(sd3, dit):
    for pipe, draw in ((sd3, draw_sd3), (dit, draw_dit)):
        plain, trace = draw(pipe, weight=1.0), Trace()
        with attach(pipe, trace):
            assert torch.equal(draw(pipe, weight=1.0), plain)
        assert "ratio" not in trace.to_dict() and trace.to_dict()["cond_norm"].shape == (3, 2)


def test_skip_layer_guidance_is_not_mistaken_for_the_cfg_call(sd3):
    """It calls the network a third time, with the conditional half alone."""
    plain = draw_sd3(sd3)
    with attach(sd3, CFG(weight=5.0), post_process=False):
        skipped = draw_sd3(sd3, skip_guidance_layers=[0], skip_layer_guidance_start=-1.0, skip_layer_guidance_stop=1.0)
    assert torch.equal(skipped, plain)


def test_the_network_evaluated_again_at_the_same_point_says_the_same(sd3, dit):
    def again(step, proceed):
        cond, uncond = step.denoise(step.sample, step.timestep)
        torch.testing.assert_close(cond, step.cond, atol=1e-6, rtol=0)
        torch.testing.assert_close(uncond, step.uncond, atol=1e-6, rtol=0)
        moved = step.at(step.sample + 1, index=step.grid_index)
        assert (moved.cond - step.cond).abs().max() > 1e-3
        torch.testing.assert_close(
            proceed(step.at(step.sample, index=step.grid_index)), proceed(step), atol=1e-4, rtol=0
        )
        return proceed(step)

    for pipe, draw in ((sd3, draw_sd3), (dit, draw_dit)):
        plain = draw(pipe)
        with attach(pipe, again) as attachment:
            assert torch.equal(draw(pipe), plain)
            assert attachment.evaluations == 9


def test_the_weight_of_the_pipeline_is_told_or_recovered(sd3, dit):
    weights = []
    for pipe, draw in ((sd3, draw_sd3), (dit, draw_dit)):
        with attach(pipe, lambda step, proceed: weights.append(step.pipeline_weight) or proceed(step)):
            draw(pipe)
    assert weights[:3] == [5.0] * 3
    torch.testing.assert_close(torch.stack(weights[3:]), torch.full((3, 2), 4.0), atol=1e-3, rtol=0)


def test_callbacks_do_not_synchronise(sd3, dit):
    callbacks = [RAAG(stop=0.5), CFG(weight=[5.0, 4.0], rescale=0.5, start=0.5), GuidanceInterval(), Trace()]

    def watched(step, proceed):
        with NoSynchronisation():
            return proceed(step)

    for pipe, draw in ((sd3, draw_sd3), (dit, draw_dit)):
        with attach(pipe, [*callbacks, watched]):
            draw(pipe)


def test_the_watch_for_synchronisation_works():
    with pytest.raises(AssertionError, match="waits for the device"), NoSynchronisation():
        torch.ones(3).sum().item()
    with pytest.raises(AssertionError, match="waits for the device"), NoSynchronisation():
        if torch.ones(()) > 0:
            pass


def test_check_finite_says_where(sd3):
    with (
        pytest.raises(FloatingPointError, match="callbacks' prediction is not finite at step 1 of 3"),
        attach(sd3, lambda step, proceed: proceed(step) * (float("nan") if step.index else 1.0), check_finite=True),
    ):
        draw_sd3(sd3)


def test_callback_on_step_end_still_runs(sd3):
    seen = []
    with attach(sd3, RAAG()):
        draw_sd3(sd3, callback_on_step_end=lambda pipe, i, t, kwargs: seen.append(i) or kwargs)
    assert seen == [0, 1, 2]


def test_what_cannot_be_watched_is_refused():
    class NewPipeline:
        pass

    with pytest.raises(ValueError, match="NewPipeline has no scheduler"):
        attach(NewPipeline(), RAAG())


def test_a_scheduler_replaced_while_attached_is_noticed(sd3):
    stock = sd3.scheduler
    try:
        with pytest.raises(RuntimeError, match="scheduler was replaced"), attach(sd3, RAAG()):
            sd3.scheduler = FlowMatchEulerDiscreteScheduler()
            draw_sd3(sd3)
    finally:
        sd3.scheduler = stock
    assert "step" not in vars(stock)
