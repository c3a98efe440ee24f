"""Caches that nobody knows by name: recognised by what they keep in hooks, attention processors and attributes."""

import pytest
import torch
from diffusers.models.transformers.transformer_flux import FluxAttnProcessor

from diffusion_guidance import CFG, GuidanceInterval, attach

from ..tiny_families import FAMILIES, relative_error


TWO_CALLS, BATCHED = (next(tiny for tiny in FAMILIES if tiny.name == name) for name in ("Flux", "StableDiffusion3"))


def block_of(network):
    return network.transformer_blocks[0]


def by_closure(network):
    """A hook that computes every other step and keeps two branches, as a published cache would for a block."""
    calls, kept = 0, {}

    def hook(module, args, output):
        nonlocal calls
        calls, branch = calls + 1, calls % 2
        if calls // 3 % 2 == 0:
            kept[branch] = output
        return kept.get(branch, output)

    block_of(network).register_forward_hook(hook)


class _Average:
    """Writes into the very same tensor."""

    def __init__(self):
        self.average = None

    def __call__(self, module, args, kwargs, output):
        value = output[0] if isinstance(output, tuple) else output
        if self.average is None or self.average.shape != value.shape:
            self.average = value.clone()
        self.average.lerp_(value, 0.5)
        return (self.average.clone(), *output[1:]) if isinstance(output, tuple) else self.average.clone()


def by_attribute(network):
    block_of(network).register_forward_hook(_Average(), with_kwargs=True)


def on_the_module(network):
    """A hook that has no state of its own: the module carries it."""

    def hook(module, args, output):
        before = getattr(module, "_before", None)
        module._before = output
        return output if before is None else tuple(map(torch.lerp, before, output, [torch.tensor(0.9)] * len(output)))

    block_of(network).register_forward_hook(hook)


class _KeepingProcessor(FluxAttnProcessor):
    """An attention that is computed for two of three calls."""

    def __init__(self):
        super().__init__()
        self.calls, self.kept = 0, None

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.kept is None or self.calls % 3:
            self.kept = super().__call__(*args, **kwargs)
        return self.kept


def by_processor(network):
    block_of(network).attn.set_processor(_KeepingProcessor())


def by_time(network):
    """A hook that computes once for each third of the noise levels: evaluated again, it changes nothing."""
    kept, now = {}, [0.0]

    def note(module, args, kwargs):
        if kwargs["timestep"].max().item() > now[0]:  # another run
            kept.clear()
        now[0] = kwargs["timestep"].max().item()

    network.register_forward_pre_hook(note, with_kwargs=True)
    block_of(network).register_forward_hook(lambda module, args, output: kept.setdefault(int(3 * now[0]), output))


CACHES = [by_time, by_closure, by_attribute, on_the_module, by_processor]


def evaluate_again(step, proceed):
    step.denoise(step.sample + 1, step.timestep)
    return proceed(step)


@pytest.mark.parametrize("cache", CACHES)
def test_a_cache_serves_the_pipeline_and_is_refused_when_the_network_is_evaluated_again(cache):
    exact = TWO_CALLS.draw(TWO_CALLS.pipe(), steps=6)
    pipe, same = TWO_CALLS.pipe(), TWO_CALLS.pipe()
    for each in (pipe, same):
        cache(each.transformer)
    cached = TWO_CALLS.draw(same, steps=6)
    assert relative_error(cached, exact) > 1e-5
    with attach(pipe, CFG(weight=TWO_CALLS.weight)):
        assert torch.equal(TWO_CALLS.draw(pipe, steps=6), cached)
    seen = "(hook|attribute (processor|_before)).* of (transformer_blocks.0|Flux).* changes with each evaluation"
    with attach(pipe, evaluate_again), pytest.raises(RuntimeError, match=seen):
        TWO_CALLS.draw(pipe, steps=6)


@pytest.mark.parametrize("cache", [by_closure, by_attribute, on_the_module])
@pytest.mark.parametrize("tiny", [TWO_CALLS, BATCHED], ids=lambda tiny: tiny.name)
def test_both_passes_run_with_a_cache(tiny, cache):
    drawn = []
    for skip in (True, False):
        pipe = tiny.pipe()
        cache(pipe.transformer)
        with attach(pipe, [CFG(weight=tiny.weight), GuidanceInterval(stop=0.5)], skip=skip) as attachment:
            drawn.append(tiny.draw(pipe, steps=4))
            assert attachment.evaluations == 0
    assert torch.equal(*drawn)


def tilted(value, slope):
    return value + torch.linspace(*slope.tolist(), value.shape[-1])


class _Steering:
    """Adds a direction, and counts how often."""

    def __init__(self):
        self.direction, self.calls = torch.tensor([0.0, 0.5]), 0

    def __call__(self, module, args, output):
        self.calls += 1
        return tuple(tilted(each, self.direction) for each in output)


def steer(pipe):
    block_of(pipe.transformer).register_forward_hook(_Steering())


def count(pipe):
    counted = []
    for part in pipe.transformer.modules():
        part.register_forward_pre_hook(lambda module, args: counted.append(type(module).__name__))


class _Positions(torch.nn.Module):
    """Frequencies by shape, made when a shape is first seen, and a note of what was seen last."""

    def __init__(self, embed):
        super().__init__()
        self.embed, self.made, self.last_shape = embed, {}, None

    def forward(self, ids):
        if ids.shape not in self.made:
            self.made[ids.shape] = self.embed(ids)
        self.last_shape = ids.shape
        return self.made[ids.shape]


def keep_positions(pipe):
    pipe.transformer.pos_embed = _Positions(pipe.transformer.pos_embed)


@pytest.mark.parametrize("harmless", [steer, count, keep_positions])
def test_what_is_derived_counted_or_constant_is_not_a_cache(harmless):
    pipe = TWO_CALLS.pipe()
    harmless(pipe)
    plain = TWO_CALLS.draw(pipe)
    pipe = TWO_CALLS.pipe()
    harmless(pipe)
    errors = []

    def again(step, proceed):
        step.denoise(step.sample + 1, step.timestep)
        found = step.denoise(step.sample, step.timestep)
        errors.append(relative_error(found[0], step.cond))
        return proceed(step)

    with attach(pipe, again):
        assert torch.equal(TWO_CALLS.draw(pipe), plain)
    assert len(errors) == 3 and max(errors) == 0


def test_an_observer_that_keeps_tensors_is_let_through_without_verification():
    pipe, kept = TWO_CALLS.pipe(), []
    block_of(pipe.transformer).register_forward_hook(lambda module, args, output: kept.append(output))
    with attach(pipe, evaluate_again), pytest.raises(RuntimeError, match=r"verify=False"):
        TWO_CALLS.draw(pipe)
    plain = TWO_CALLS.draw(pipe)
    with attach(pipe, evaluate_again, verify=False):
        assert torch.equal(TWO_CALLS.draw(pipe), plain)


def test_hooks_that_a_callback_puts_on_for_its_own_evaluation_are_not_the_pipelines_cache():
    pipe = TWO_CALLS.pipe()
    plain = TWO_CALLS.draw(pipe)

    def perturbed(step, proceed):
        slope = torch.linspace(0, 1, 2)
        block = block_of(pipe.transformer)
        hook = block.register_forward_hook(lambda module, args, output: tuple(tilted(each, slope) for each in output))
        other = step.denoise(step.sample, step.timestep)[0]
        hook.remove()
        assert relative_error(other, step.cond) > 1e-6
        return proceed(step)

    with attach(pipe, perturbed):
        assert torch.equal(TWO_CALLS.draw(pipe), plain)
