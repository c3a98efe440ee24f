"""Unconditional passes that nobody reads: the same images from fewer evaluations."""

import diffusers
import pytest
import torch

from diffusion_guidance import CFG, RAAG, Callback, GuidanceInterval, Trace, attach
from diffusion_guidance.attachment import skipping
from diffusion_guidance.attachment.halves import half_of, twice
from diffusion_guidance.attachment.skip_plan import SkipPlan

from ..tiny import draw_sd3, tiny_sd3
from ..tiny_families import FAMILIES, relative_error


TINY = {tiny.name: tiny for tiny in FAMILIES}
BATCHED = ("StableDiffusionXL", "StableDiffusion3", "DiT", "PixArt-Sigma", "CogVideoX", "LTX")
CALLED_TWICE = ("Flux", "Wan 2.1", "HunyuanVideo")
STEPS = 6
HALF = [3.0, 3.0, 3.0, 1.0]  # the last is kept


def run(name, callbacks, **kwargs):
    """The result, and how many samples, and how many calls, the network itself computed."""
    tiny = TINY[name]
    pipe, seen = tiny.pipe(), []
    network = getattr(pipe, "unet", None) or pipe.transformer
    first = next(part for part in network.modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d))
    hook = first.register_forward_hook(lambda _, args, output: seen.append(len(args[0])))
    with attach(pipe, callbacks, **kwargs) as attachment:
        result = tiny.draw(pipe, steps=STEPS)
        evaluations = attachment.evaluations
    hook.remove()
    assert "forward" not in vars(network)
    return result, sum(seen), len(seen), evaluations


@pytest.fixture(autouse=True)
def nothing_tried(monkeypatch):
    monkeypatch.setattr(skipping, "_TRIED", type(skipping._TRIED)())


@pytest.mark.parametrize("name", [*BATCHED, *CALLED_TWICE])
def test_same_images_from_fewer_evaluations(name):
    both, samples, calls, evaluations = run(name, CFG(HALF), skip=False)
    assert evaluations == 0
    result, fewer_samples, fewer_calls, spared = run(name, CFG(HALF))
    assert relative_error(result, both) < 1e-6
    assert spared == -1.5
    if name in CALLED_TWICE:
        assert fewer_calls == calls - 3
    elif name == "StableDiffusion3":  # 3 halves of 6 pairs fewer, and one half to see that halves are computed alike
        assert fewer_samples == samples - 2 * 3 + 2


@pytest.mark.parametrize(
    "make",
    [
        lambda: [CFG(3.0), GuidanceInterval(0.3, 3.0)],
        lambda: [GuidanceInterval(0.3, 3.0)],
        lambda: [RAAG(4.0, 2.0), CFG(1.0, start=0.5)],
        lambda: [CFG(HALF), Trace()],
    ],
)
def test_intervals_windows_and_observers(make):
    pipe = tiny_sd3()
    with attach(pipe, make(), skip=False):
        both = draw_sd3(pipe, steps=STEPS)
    with attach(pipe, make()) as attachment:
        assert relative_error(draw_sd3(pipe, steps=STEPS), both) < 1e-6
        assert attachment.evaluations < 0


def test_a_trace_has_no_ratio_where_the_pass_was_left_out():
    pipe, trace = tiny_sd3(), Trace()
    with attach(pipe, [CFG(HALF), trace]):
        draw_sd3(pipe, steps=STEPS)
    assert [value is None for value in trace.runs[0]["ratio"]] == [False] * 3 + [True] * 3


def test_a_sampler_with_two_evaluations_a_step():
    pipe = tiny_sd3()
    pipe.scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
    with attach(pipe, CFG(HALF), skip=False):
        both = draw_sd3(pipe, steps=STEPS)
    with attach(pipe, CFG(HALF)) as attachment:
        assert relative_error(draw_sd3(pipe, steps=STEPS), both) < 3e-6  # eleven evaluations
        assert attachment.evaluations == -3  # halves of both evaluations at each of the last three noise levels


class Reader(Callback):
    def guide(self, step, proceed):
        return proceed(step) + 0 * step.uncond


@pytest.mark.parametrize(
    ("name", "callbacks", "kwargs"),
    [
        ("StableDiffusion3", [CFG(HALF), Reader()], {}),
        ("StableDiffusion3", [CFG(HALF), lambda step, proceed: proceed(step)], {}),
        ("StableDiffusion3", [CFG(3.0)], {}),
        ("StableDiffusion3", [CFG(HALF)], {"verify": False}),
        ("QwenImage", [CFG(HALF)], {}),  # the pipeline changes its combination by both
    ],
)
def test_both_run_where_somebody_reads_or_it_is_not_known(name, callbacks, kwargs):
    assert run(name, callbacks, **kwargs)[3] == 0


def test_both_run_where_halves_are_not_computed_alike():
    pipe = tiny_sd3()
    block = pipe.transformer.transformer_blocks[0]
    hook = block.norm1.linear.register_forward_hook(lambda _, args, output: output + 0.1 * output.mean(0, keepdim=True))
    with attach(pipe, CFG(HALF), skip=False):
        both = draw_sd3(pipe, steps=STEPS)
    with attach(pipe, CFG(HALF)) as attachment:
        assert torch.equal(draw_sd3(pipe, steps=STEPS), both)
        assert attachment.evaluations == 0
    hook.remove()


def test_both_run_with_a_cache():
    pipe = TINY["Flux"].pipe()
    pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.0))
    with attach(pipe, CFG(HALF)) as attachment:
        TINY["Flux"].draw(pipe, steps=STEPS)
        assert attachment.evaluations == 0


def test_the_prediction_is_made_up_for_where_the_loop_goes_elsewhere(monkeypatch):
    tiny = TINY["StableDiffusion3"]
    pipe, weights = tiny.pipe(), [3.0, 1.0, 3.0, 3.0, 3.0, 3.0]
    with attach(pipe, CFG(weights), skip=False):
        both = tiny.draw(pipe, steps=STEPS)
    is_read = SkipPlan._is_read
    monkeypatch.setattr(SkipPlan, "_is_read", lambda plan, index: False)  # beforehand: by nobody
    monkeypatch.setattr(SkipPlan, "holds", lambda plan: not is_read(plan, plan._run.grid_index))
    with attach(pipe, CFG(weights)) as attachment:
        assert relative_error(tiny.draw(pipe, steps=STEPS), both) < 1e-6
        assert attachment.evaluations == 4 - 2.5  # 5 steps were skipped, 4 of them evaluated again
    assert attachment.evaluations == 4 - 2.5  # also after it was taken off


def test_halves_at_any_depth():
    value = {"a": torch.arange(4), "b": [torch.arange(4).reshape(4, 1), None], "c": torch.tensor(1.0), "d": "x"}
    half = half_of(value, 4, 1)
    assert half["a"].tolist() == [2, 3] and half["b"][0].tolist() == [[2], [3]] and half["b"][1] is None
    assert half["c"] == 1 and half["d"] == "x"
    assert half_of([["a"], ["b"]], 2, 0) == [["a"]]
    assert [one.shape[0] for one in half_of([torch.zeros(1, 2)] * 4, 4, 0)] == [1, 1]
    assert twice((torch.arange(2),), 4)[0].tolist() == [0, 1, 0, 1]
