"""Single wrong facts of families, and what a fact has an effect on."""

import torch

from diffusion_guidance.attachment.establish import of_family
from diffusion_guidance.attachment.families import Family, Layout, Observed, PostProcessing, formulas


#: Tiny families, one of each mechanism.
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


def wrong_facts(family: Family) -> tuple[dict, ...]:
    """A wrong value, or several, of each field."""
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
        {"names": ("uncond", "cond")},
        {"pipelines": ("NothingPipeline",)},
        {"enable": "nothing"},
        {"prediction_type": "sample"},
        {"prediction_type": "epsilon"},
        {"prediction_type": "flow_prediction"},
    )


def effect(family: Family, step: Observed) -> list[torch.Tensor]:
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
