import pytest
import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig

from diffusion_guidance import CFG, DiffIER, attach

from ..tiny_families import FAMILIES, relative_error


TWO_CALLS = next(tiny for tiny in FAMILIES if tiny.name == "Flux")


def test_evaluations_of_callbacks_neither_use_nor_disturb_a_cache():
    pipe = TWO_CALLS.pipe()
    exact = TWO_CALLS.draw(pipe, steps=6)
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.5))
    cached, hits = TWO_CALLS.draw(pipe, steps=6), []
    assert relative_error(cached, exact) > 1e-4

    def again(step, proceed):
        first = step.denoise(step.sample, step.timestep)
        step.denoise(step.sample + 1, step.timestep)
        second = step.denoise(step.sample, step.timestep)
        assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
        hits.append(not torch.equal(first[0], step.cond))
        return proceed(step)

    with attach(pipe, again):
        assert torch.equal(TWO_CALLS.draw(pipe, steps=6), cached)
    assert not hits[0] and any(hits)  # the pipeline's own predictions are the cache's, those of the callback exact


def test_a_cache_that_counts_calls_does_not_see_those_of_callbacks():
    pipe = TWO_CALLS.pipe()
    exact = TWO_CALLS.draw(pipe)
    pipe.transformer.enable_cache(
        PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            spatial_attention_timestep_skip_range=(-1, 1001),
            current_timestep_callback=lambda: int(pipe._current_timestep),
        )
    )
    plain = TWO_CALLS.draw(pipe)
    assert relative_error(plain, exact) > 1e-4
    pipe.transformer._reset_stateful_cache()
    with attach(pipe, [CFG(weight=TWO_CALLS.weight), DiffIER(1, 0.0)]):
        assert torch.equal(TWO_CALLS.draw(pipe), plain)


def test_a_forward_that_somebody_replaced_serves_the_pipeline_and_is_refused_when_evaluated_again():
    """As DeepCache does: its wrapper shows no names of arguments, and counts the calls."""
    pipe = TWO_CALLS.pipe()
    plain, forward = TWO_CALLS.draw(pipe), pipe.transformer.forward
    pipe.transformer.forward = lambda *args, **kwargs: forward(*args, **kwargs)
    with attach(pipe, CFG(weight=TWO_CALLS.weight)):
        assert torch.equal(TWO_CALLS.draw(pipe), plain)
    with attach(pipe, DiffIER()), pytest.raises(RuntimeError, match="forward of this network was replaced"):
        TWO_CALLS.draw(pipe)
