"""Right families pass in every precision; a family with one wrong fact is refused, or the fact has no effect."""

from dataclasses import replace

import pytest
import torch

from diffusion_guidance.attachment.establish import establish, of_family
from diffusion_guidance.attachment.families import Layout, Observed, PostProcessing, find_family, formulas
from diffusion_guidance.attachment.verification import FamilyError, verify
from tests.attachment.seen import scaling, seen
from tests.tiny_families import FAMILIES, VARIANTS


DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BY_NAME = {tiny.name: tiny for tiny in FAMILIES + VARIANTS}
TEN = (
    "StableDiffusion",
    "StableDiffusion3",
    "DiT",
    "PixArt-Sigma",
    "Sana",
    "Flux",
    "QwenImage",
    "Lumina2",
    "Z-Image",
    "Wan 2.1",
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tiny", FAMILIES, ids=lambda tiny: tiny.name)
def test_a_right_family_passes_in_every_precision(tiny, dtype):
    pipe = tiny.pipe(dtype)
    family, step = find_family(pipe), seen(pipe, lambda: tiny.draw(pipe))
    verify(family, of_family(step, family), scaling(step))
    assert establish(step, None, scaling(step)) is family


@pytest.mark.parametrize("name", TEN)
def test_a_single_wrong_fact_is_refused_or_without_effect(name):
    pipe = BY_NAME[name].pipe()
    family, step = find_family(pipe), seen(pipe, lambda: BY_NAME[name].draw(pipe))
    verify(family, of_family(step, family), scaling(step))
    refused, right = [], effect(family, step)
    for wrong in wrong_facts(family):
        changed = replace(family, **wrong)
        try:
            verify(changed, of_family(step, changed), scaling(step))
        except FamilyError as error:
            assert str(error).count("\n") == 0
            refused += wrong
            continue
        assert all(map(torch.equal, right, effect(changed, step))), wrong
    always = {"cond_first", "negated", "doubled", "listed", "calls", "guided", "sample", "timestep", "denoiser", "time"}
    assert always <= set(refused)


def wrong_facts(family):
    per_mille, reversed_time = formulas.per_mille, formulas.reversed_time
    reversed_already = family.time in (reversed_time, formulas.reversed_per_mille)
    weight = family.weight or (lambda evaluation: 5.0)
    return (
        {"cond_first": not family.cond_first},
        {"negated": not family.negated},
        {"doubled": not family.doubled},
        {"listed": not family.listed},
        {"calls": 3 - family.calls},
        {"guided": lambda call: False},
        {"sample": "encoder_hidden_states"},
        {"sample": "nothing"},
        {"timestep": "nothing"},
        {"denoiser": "nothing"},
        {"denoiser": "vae"},
        {"second_denoiser": "nothing"},
        {"aside": (family.timestep,)},
        {"time": formulas.scheduler_time if family.time is per_mille else per_mille},
        {"time": per_mille if reversed_already else reversed_time},
        {"weight": lambda evaluation: 2.0},
        {"post_processing": PostProcessing("wrong", lambda prediction, _: 1.01 * prediction), "weight": weight},
        {"inside": Layout(last=(1, 2))},
        {"inside": Layout(order=(0, 2, 1))},
        {"outside": Layout(last=(1,))},
        {"outside": Layout(packed=True)},
        {"prediction_type": "sample"},
        {"prediction_type": "epsilon"},
        {"prediction_type": "flow_prediction"},
    )


def effect(family, step: Observed) -> list[torch.Tensor]:
    """All that callbacks and networks would be given: predictions, inputs elsewhere, and what is stepped."""
    step = of_family(step, family)
    output, sample = family.stepped(step)
    elsewhere = torch.full_like(step.timestep.flatten()[0], 500)
    given = family.inputs(step.calls[0], 2 * sample, elsewhere, step, lambda sample: sample)
    found = [*family.split([call.output for call in step.calls], step, sample), family.finish(output, step)]
    for name in (family.sample, family.timestep):
        found += given[name] if isinstance(given[name], list) else [torch.as_tensor(given[name])]
    scheduler = step.pipe.scheduler
    space = family.prediction_type or scheduler.config.get("prediction_type") or "flow_prediction"
    return [*found, torch.tensor(list(space.encode()))]
