"""Every method of the field on tiny instances of real pipelines: finite in each precision, waiting for no device."""

import functools

import pytest
import torch

from diffusion_guidance import (
    APG,
    CFG,
    RAAG,
    AdaptiveGuidance,
    CFGNorm,
    CFGPlusPlus,
    DiffIER,
    DynamicCFG,
    FeedbackGuidance,
    GuidanceInterval,
    ManifoldProjection,
    RectifiedCFG,
    TemporalRescaling,
    attach,
    from_config,
    to_config,
)
from diffusion_guidance.core.callback import settings

from ..nosync import NoSynchronisation
from ..tiny_families import FAMILIES


TINY = {
    tiny.name: tiny for tiny in FAMILIES if tiny.name in ("StableDiffusion3", "StableDiffusionXL", "Flux", "Wan 2.1")
}
METHODS = {
    "CFG++": lambda: [CFGPlusPlus(0.7)],
    "Rectified-CFG++": lambda: [RectifiedCFG(1.5)],
    "APG": lambda: [APG(3.0, norm_threshold=20.0)],
    "APG, prediction": lambda: [APG(3.0, norm_threshold=20.0, space="prediction")],
    "CFGNorm": lambda: [CFG(3.0), CFGNorm()],
    "CFGNorm, x0": lambda: [CFG(3.0), CFGNorm(space="x0")],
    "adaptive guidance": lambda: [CFG(3.0), AdaptiveGuidance(0.5)],
    "TSR": lambda: [CFG(3.0), TemporalRescaling(1.2)],
    "FBG": lambda: [FeedbackGuidance(0.8)],
    "CFG-MP": lambda: [CFG(3.0), ManifoldProjection(2)],
    "DiffIER, gradient": lambda: [CFG(3.0), DiffIER(objective="gradient")],
    "DiffIER, manifold": lambda: [CFG(3.0), DiffIER(objective="manifold")],
    "dynamic CFG": lambda: [DynamicCFG(lambda x0: -x0.flatten(1).square().mean(1), [1.0, 3.0], decoder=lambda x0: x0)],
}
FLOWS_ONLY = ("CFG-MP",)
CASES = [
    (name, method) for name in TINY for method in METHODS if name != "StableDiffusionXL" or method not in FLOWS_ONLY
]


@functools.cache
def pipe_of(name: str, dtype: torch.dtype):
    return TINY[name].pipe(dtype)


@functools.cache
def plain_draw(name: str, dtype: torch.dtype) -> torch.Tensor:
    return TINY[name].draw(pipe_of(name, dtype), dtype=dtype)


def watched(callback):
    """`callback`, which may not wait for the device except in the first step, where grids are read."""

    def guide(step, proceed):
        if step.index == 0:
            return callback(step, proceed)
        with NoSynchronisation():
            return callback(step, proceed)

    return guide


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("name", "method"), CASES)
def test_runs_finite_without_a_wait_and_leaves_the_pipeline_as_it_was(name, method, dtype):
    pipe, plain = pipe_of(name, dtype), plain_draw(name, dtype)
    if not plain.isfinite().all():
        pytest.skip("the random network overflows")
    with attach(pipe, [watched(callback) for callback in METHODS[method]()]):
        result = TINY[name].draw(pipe, dtype=dtype)
    assert result.dtype == plain.dtype
    assert torch.isfinite(result).all()
    assert not torch.equal(result, plain)
    if dtype == torch.float32:
        assert torch.equal(TINY[name].draw(pipe), plain)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "dynamic CFG"])
def test_settings_are_written_and_read(method):
    made = METHODS[method]()
    assert to_config(from_config(to_config(made))) == to_config(made)


#: Those of the papers or of the authors' code; documents and stored results rest on them.
DEFAULTS = {
    APG: {"weight": 5.0, "eta": 0.0, "norm_threshold": None, "momentum": -0.5, "space": "x0"},
    AdaptiveGuidance: {"bound": 0.99, "after": 1.0},
    CFGNorm: {"amount": 1.0, "space": "prediction"},
    CFGPlusPlus: {"scale": 0.6},
    DiffIER: {"iterations": 1, "step_size": 0.5, "objective": "pair"},
    FeedbackGuidance: {"prior": 0.95, "w_max": 10.0, "t0": 0.5, "t1": 0.4},
    GuidanceInterval: {"low": 0.28, "high": 2.9},
    ManifoldProjection: {"iterations": 3, "window": 2, "ridge": 1e-4, "threshold": 0.6},
    RAAG: {"w_max": 18.0, "alpha": 12.0},
    RectifiedCFG: {"weight": 2.5},
    TemporalRescaling: {"k": 1.05, "variance": 1.0},
    functools.partial(DynamicCFG, lambda images: images.flatten(1).mean(1)): {"weights": [1.0, 2.0, 3.5, 5.0, 7.5]},
}


@pytest.mark.parametrize(("kind", "defaults"), DEFAULTS.items())
def test_defaults_are_those_that_were_published(kind, defaults):
    config = settings(kind())
    assert {
        name: list(config[name]) if isinstance(config[name], tuple) else config[name] for name in defaults
    } == defaults
