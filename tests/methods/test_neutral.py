"""Every callback of the package at its neutral setting is plain guidance, to the bit."""

import pytest
import torch

from diffusion_guidance import (
    APG,
    CFG,
    RAAG,
    AdaptiveGuidance,
    Autoguidance,
    CFGNorm,
    CFGPlusPlus,
    ClassifierGuidance,
    DiffIER,
    DynamicCFG,
    FeedbackGuidance,
    GuidanceInterval,
    ManifoldProjection,
    RectifiedCFG,
    Strength,
    TemporalRescaling,
    Trace,
    attach,
)
from diffusion_guidance.core.kinds import known_kinds
from diffusion_guidance.methods.classifier.calibration_trace import CalibrationTrace

from .test_families import TINY, pipe_of


W = 3.0
PLAIN = CFG(W)


def logits(images):
    return images.flatten(1)[:, :10]


def conditional(step, proceed):
    return step.cond


#: name -> the callbacks at their neutral setting, and what they equal
NEUTRAL = {
    "AdaptiveGuidance": ([PLAIN, AdaptiveGuidance(bound=None)], PLAIN),
    "APG": ([APG(W, eta=1.0, momentum=0.0)], PLAIN),
    "APG, prediction": ([APG(W, eta=1.0, momentum=0.0, space="prediction")], PLAIN),
    "Autoguidance": ([Autoguidance(weight=1.0)], conditional),
    "CalibrationTrace": ([PLAIN, CalibrationTrace(logits, labels=0, decoder=lambda x0: x0)], PLAIN),
    "CFG": ([CFG(W, rescale=0.0)], PLAIN),
    "CFGNorm": ([PLAIN, CFGNorm(amount=0.0)], PLAIN),
    "CFGPlusPlus": ([CFGPlusPlus(0.0)], CFG(0.0)),
    "ClassifierGuidance": (
        [PLAIN, ClassifierGuidance(logits, Strength(scale=0.0), labels=0, decoder=lambda x0: x0)],
        PLAIN,
    ),
    "DiffIER": ([PLAIN, DiffIER(step_size=0.0)], PLAIN),
    "DynamicCFG": ([DynamicCFG(logits, [W])], PLAIN),
    "FeedbackGuidance": ([FeedbackGuidance(1 / W, temperature=0.0, offset=0.0)], PLAIN),
    "GuidanceInterval": ([PLAIN, GuidanceInterval(0.0, None)], PLAIN),
    "ManifoldProjection": ([PLAIN, ManifoldProjection(iterations=0)], PLAIN),
    "RAAG": ([RAAG(W, alpha=0.0)], PLAIN),
    "RectifiedCFG": ([RectifiedCFG(0.0)], conditional),
    "TemporalRescaling": ([PLAIN, TemporalRescaling(k=1.0)], PLAIN),
    "Trace": ([PLAIN, Trace(error=True)], PLAIN),
}
FLOWS_ONLY = ("ManifoldProjection",)
ELSEWHERE = {
    "NAG": "the pipelines here get no prompt; see tests/methods/nag/test_guidance.py",
    "GuiderCallback": "a guider of diffusers has its own neutral setting; see tests/attachment/test_guiders.py",
}


def test_every_callback_of_the_package_is_here():
    own = {kind.__name__ for kind in known_kinds().values() if kind.__module__.startswith("diffusion_guidance.")}
    assert own == {name.split(",")[0] for name in NEUTRAL} | set(ELSEWHERE)


PIPELINES = [(name, torch.float32) for name in TINY]
PIPELINES += [("StableDiffusion3", dtype) for dtype in (torch.bfloat16, torch.float16)]


@pytest.mark.parametrize(("pipeline", "dtype"), PIPELINES, ids=str)
@pytest.mark.parametrize("name", [name for name in NEUTRAL if name not in ELSEWHERE])
def test_the_neutral_setting_is_plain_guidance_to_the_bit(name, pipeline, dtype):
    if name in FLOWS_ONLY and pipeline == "StableDiffusionXL":
        pytest.skip("needs a network that predicts velocities")
    callbacks, plain = NEUTRAL[name]
    pipe, results = pipe_of(pipeline, dtype), []
    for guidance in (plain, callbacks):
        with attach(pipe, guidance, skip=False):
            results.append(TINY[pipeline].draw(pipe, dtype=dtype))
    assert torch.equal(*results)
