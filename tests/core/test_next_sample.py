"""The trial step against the schedulers' own, and that no trial disturbs them."""

import re

import diffusers
import pytest
import torch

from diffusion_guidance import DiffIER, Trace, attach
from diffusion_guidance.core.next_sample import has_next, next_step, next_target, repeats, training_target

from ..tiny_families import FAMILIES, VARIANTS, Tiny


SD, SD3 = (next(tiny for tiny in FAMILIES if tiny.name == name) for name in ("StableDiffusion", "StableDiffusion3"))
UPSCALE = next(tiny for tiny in VARIANTS if tiny.name == "StableDiffusion upscale")
V = {"prediction_type": "v_prediction"}
SAMPLERS = [
    (SD3, diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)),
    (SD3, diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)),
    (SD3, diffusers.FlowMatchHeunDiscreteScheduler()),
    (SD, diffusers.DDIMScheduler(clip_sample=False)),
    (SD, diffusers.DDIMScheduler(clip_sample=True)),
    (SD, diffusers.DDIMScheduler(clip_sample=False, **V)),
    (SD, diffusers.DDPMScheduler()),
    (SD, diffusers.EulerDiscreteScheduler()),
    (SD, diffusers.EulerDiscreteScheduler(use_karras_sigmas=True, **V)),
    (SD, diffusers.EulerAncestralDiscreteScheduler()),
    (SD, diffusers.DPMSolverMultistepScheduler()),
    (SD, diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True, **V)),
    (SD, diffusers.DPMSolverMultistepScheduler(algorithm_type="sde-dpmsolver++")),
    (SD3, diffusers.DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)),
    (SD, diffusers.UniPCMultistepScheduler()),
    (SD, diffusers.HeunDiscreteScheduler()),
    (SD, diffusers.HeunDiscreteScheduler(clip_sample=True, **V)),
    (SD, diffusers.LCMScheduler()),
    (SD, diffusers.DEISMultistepScheduler()),
]
EXACT = (0, 2, 3, 4, 5, 7, 8, 15, 16)  # those whose next sample is that of the trial step


def name(case) -> str:
    scheduler = case[1]
    kind = scheduler.config.get("prediction_type", "flow").split("_")[0]
    return f"{type(scheduler).__name__}-{kind}-{SAMPLERS.index(case)}"


def pipe_with(tiny: Tiny, scheduler):
    pipe = tiny.pipe()
    pipe.register_modules(scheduler=type(scheduler).from_config(scheduler.config))
    return pipe


def attached(tiny: Tiny, pipe, guidance, **kwargs) -> torch.Tensor:
    with attach(pipe, guidance):
        return tiny.draw(pipe, steps=4, **kwargs)


def present(values: torch.Tensor) -> torch.Tensor:
    """Without the rows of evaluations that have no next sample."""
    assert values.isnan().all(1).any()
    return values[~values.isnan().all(1)]


@pytest.mark.parametrize("case", SAMPLERS, ids=name)
@pytest.mark.parametrize("objective", ["pair", "renoise"])
def test_trial_steps_leave_the_sampler_as_it_is_to_the_bit(case, objective):
    pipe = pipe_with(*case)
    plain = case[0].draw(pipe, steps=4)
    measured, trace = DiffIER(2, 0.0, objective=objective), Trace(levels=False)
    assert torch.equal(attached(case[0], pipe, [measured, trace]), plain)
    assert torch.isfinite(present(trace.to_dict()["trial_error"])).all()
    assert not torch.equal(attached(case[0], pipe, DiffIER(1, 0.3, objective=objective)), plain)
    assert torch.equal(case[0].draw(pipe, steps=4), plain)


@pytest.mark.parametrize("case", [SAMPLERS[k] for k in EXACT], ids=name)
def test_the_trial_is_the_samplers_own_next_sample(case):
    pipe, expected, errors = pipe_with(*case), {}, []

    def compare(step, proceed):
        prediction = proceed(step)
        if step.grid_index in expected:
            given = expected.pop(step.grid_index)
            errors.append(((given - step.sample).abs().max() / step.sample.abs().max()).item())
        if has_next(step):
            trial = next_step(step, prediction)
            assert trial.elsewhere and trial.grid_index == step.grid_index + 1
            expected[trial.grid_index] = trial.sample
        return prediction

    attached(case[0], pipe, compare)
    assert not expected and len(errors) == 3
    assert max(errors) < 2e-5


@pytest.mark.parametrize("case", [SAMPLERS[k] for k in EXACT], ids=name)
def test_the_error_that_costs_nothing_is_the_one_of_the_trial(case):
    """Trace reads at the next step what DiffIER(step_size=0) evaluates for it."""
    pipe, trace = pipe_with(*case), Trace(error=True)
    attached(case[0], pipe, [DiffIER(1, 0.0), trace])
    data = trace.to_dict()
    trial = present(data["trial_error"])
    found = data["error"][data["error"].amax(1) > 0]
    assert found.shape == trial.shape == (3, data["error"].shape[1])
    torch.testing.assert_close(found, trial, rtol=2e-3, atol=1e-9)
    torch.testing.assert_close(trace.accumulated_error(), trial.sum(0), rtol=2e-3, atol=1e-9)


def test_the_error_by_hand():
    """Of the conditional prediction too, after guidance that changes the prediction."""
    pipe, seen, trace = SD3.pipe(), [], Trace(error=True)

    def double(step, proceed):
        seen.append((step.cond.double(), 2 * proceed(step).double()))
        return seen[-1][1].float()

    attached(SD3, pipe, [double, trace])
    for i in range(1, 4):
        target = seen[i - 1][1]
        for key, found in (("cond_error", seen[i][0]), ("error", seen[i][1])):
            expected = (found - target).square().flatten(1).mean(1)
            torch.testing.assert_close(trace.to_dict()[key][i].double(), expected, rtol=1e-5, atol=1e-8)
    assert trace.to_dict()["error"][0].eq(0).all()
    assert trace.accumulated_error(name="cond_error").shape == (2,)
    with pytest.raises(ValueError, match="make it with Trace"):
        plain = Trace()
        attached(SD3, pipe, plain)
        plain.accumulated_error()


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction", "flow_prediction"])
def test_the_target_is_that_of_training(kind):
    """Against the schedulers' own training targets, and exact predictions have no error at all."""
    x0, eps = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(0)).unbind()
    ddpm, t = diffusers.DDPMScheduler(), torch.tensor([400, 400])
    abar = ddpm.alphas_cumprod[400]
    expected = {
        "epsilon": eps,
        "sample": x0,
        "v_prediction": ddpm.get_velocity(x0, eps, t),
        "flow_prediction": eps - x0,
    }[kind]
    torch.testing.assert_close(training_target(x0, eps, (abar.sqrt(), (1 - abar).sqrt()), kind), expected)


def test_v_is_turned_to_the_next_level():
    """A network that always answers for one pair has no error, though v changes from level to level."""
    pipe, pair = pipe_with(*SAMPLERS[5]), torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    errors = []

    def answer(step, proceed):
        proceed(step)
        v = training_target(*pair, (step.alpha, step.sigma), "v_prediction").expand_as(step.sample)
        if errors:
            errors[-1] = (errors[-1] - v).abs().max().item()
        if has_next(step):
            exact = step.alpha * pair[0] + step.sigma * pair[1]
            moved = step.at(exact.expand_as(step.sample).contiguous(), index=step.grid_index)
            errors.append(next_target(moved, v))
        return v

    attached(SD, pipe, answer)
    assert len(errors) == 3 and max(errors) < 1e-5


def test_which_samplers_reuse():
    euler, ddim = diffusers.EulerDiscreteScheduler(), diffusers.DDIMScheduler()
    assert repeats(diffusers.FlowMatchEulerDiscreteScheduler(), {}) and repeats(euler, {"s_churn": 0.0})
    assert repeats(ddim, {"eta": 0.0}) and not repeats(ddim, {"eta": 0.5}) and not repeats(euler, {"s_churn": 1.0})
    assert not repeats(ddim, {"use_clipped_model_output": True})
    assert not repeats(diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=True), {})
    for kind in ("DDPM", "EulerAncestralDiscrete", "DPMSolverMultistep", "UniPCMultistep", "HeunDiscrete"):
        assert not repeats(getattr(diffusers, f"{kind}Scheduler")(), {})


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [4, 7])
def test_ddim_reuses_where_it_goes_to_its_own_next_time(spacing, steps):
    """The trial's sample is that of the next step exactly then, and only then is the evaluation spared."""
    pipe, expected, errors = pipe_with(SD, diffusers.DDIMScheduler(clip_sample=False, timestep_spacing=spacing)), [], []

    def compare(step, proceed):
        prediction = proceed(step)
        errors.extend((given - step.sample).abs().max().item() for given in expected)
        expected[:] = [next_step(step, prediction).sample] if has_next(step) else []
        return prediction

    with attach(pipe, compare):
        SD.draw(pipe, steps=steps)
    with attach(pipe, DiffIER(reuse=True)) as attachment:
        SD.draw(pipe, steps=steps)
        spared = attachment.evaluations == 0
    assert spared == (max(errors) < 1e-4) == (spacing == "leading" or (spacing, steps) == ("trailing", 4))


@pytest.mark.parametrize("tiny", FAMILIES, ids=lambda tiny: tiny.name)
def test_reuse_in_every_family_saves_what_it_says(tiny):
    """The networks that ran, by a count inside of them."""
    pipe, calls = tiny.pipe(), []
    modules = [m for m in (getattr(pipe, n, None) for n in ("unet", "transformer", "transformer_2")) if m is not None]
    parts = [next(part for part in module.modules() if isinstance(part, torch.nn.Linear)) for module in modules]
    handles = [part.register_forward_hook(lambda *_: calls.append(1)) for part in parts]
    tiny.draw(pipe, steps=4)
    plain = len(calls)
    calls.clear()
    with attach(pipe, DiffIER(1, 0.3, reuse=True)) as attachment:
        result = tiny.draw(pipe, steps=4)
        total = 4 + attachment.evaluations
    for handle in handles:
        handle.remove()
    assert torch.isfinite(result).all()
    assert len(calls) == plain * total / 4
    same = repeats(pipe.scheduler, {}) and tiny.name not in ("QwenImage", "Lumina2")  # which post-process
    # Wan 2.2 changes its network on the way, and the first evaluation by the second one is its own.
    assert total == (4 if same else 7) or tiny.name.startswith("Wan")


@pytest.mark.parametrize("cls", ["KDPM2DiscreteScheduler", "DPMSolverSinglestepScheduler", "PNDMScheduler"])
@pytest.mark.parametrize("guidance", [DiffIER(), Trace(levels=False, error=True)], ids=["DiffIER", "Trace"])
def test_a_sampler_of_stages_is_refused_and_the_way_out_works(cls, guidance):
    pipe = pipe_with(SD, getattr(diffusers, cls)())
    with pytest.raises(ValueError, match=f"{cls} evaluates .* which have no next sample") as refusal:
        attached(SD, pipe, guidance)
    said = re.search(r"pipe\.scheduler = .*\(pipe\.scheduler\.config\)", str(refusal.value))[0]
    exec(said, {"pipe": pipe, "diffusers": diffusers})
    assert torch.isfinite(attached(SD, pipe, guidance)).all()


@pytest.mark.parametrize("tiny", [UPSCALE, *(t for t in FAMILIES if t.name == "AudioLDM2")], ids=lambda tiny: tiny.name)
def test_the_error_falls_in_upscaling_and_audio(tiny):
    """With the real samplers of these pipelines, and with EulerDiscrete."""
    for scheduler in (tiny.pipe().scheduler, diffusers.EulerDiscreteScheduler()):
        totals = []
        for guidance in ([], [DiffIER(1, 0.5)], [DiffIER(3, 0.5)]):
            pipe, trace = pipe_with(tiny, scheduler), Trace(error=True)
            attached(tiny, pipe, [*guidance, trace])
            totals.append(trace.accumulated_error())
        assert (totals[1] < totals[0]).all() and (totals[2] < totals[1]).all()
