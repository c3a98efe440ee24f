import pytest
import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig

from diffusion_guidance import CFG, attach

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


def test_a_cache_that_counts_calls_is_refused_when_the_network_is_evaluated_again():
    pipe = TWO_CALLS.pipe()
    pipe.transformer.enable_cache(
        PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2, current_timestep_callback=lambda: pipe._current_timestep
        )
    )
    plain = TWO_CALLS.draw(pipe)
    with attach(pipe, CFG(weight=TWO_CALLS.weight)):
        assert torch.equal(TWO_CALLS.draw(pipe), plain)
    again = attach(pipe, lambda step, proceed: proceed(step.at(step.sample, timestep=step.timestep)))
    with again, pytest.raises(RuntimeError, match=r"PyramidAttentionBroadcastConfig counts .* disable_cache"):
        TWO_CALLS.draw(pipe)
