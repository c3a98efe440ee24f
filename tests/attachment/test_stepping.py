"""What runs in place of the scheduler's `step`."""

import pytest
import torch

from diffusion_guidance import CFG, attach

from ..tiny import draw_sd3, tiny_sd3


@pytest.fixture(scope="module")
def pipe():
    return tiny_sd3()


def test_what_the_callbacks_return_is_stepped_by_the_schedulers_own_step(pipe):
    stepped = []

    def answer(step, proceed):
        stepped.append((step.sample, step.timestep, step.cond * 2))
        return stepped[-1][2]

    with attach(pipe, answer):
        drawn = draw_sd3(pipe)
    pipe.scheduler.set_timesteps(3)
    for sample, timestep, prediction in stepped:
        result = pipe.scheduler.step(prediction, timestep, sample, return_dict=False)[0]
    assert torch.equal(drawn, result)


def test_evaluations_are_those_of_the_last_run_also_after_detaching(pipe):
    with attach(pipe, [CFG(weight=5.0), CFG(weight=1.0, start=0.5)]) as attachment:
        assert attachment.evaluations == 0
        draw_sd3(pipe, steps=4)
        within = attachment.evaluations
    assert within == attachment.evaluations == -1  # two passes of halves
    with attach(pipe, lambda step, proceed: (step.denoise(step.sample, step.timestep), proceed(step))[1]) as attachment:
        draw_sd3(pipe, steps=4)
        draw_sd3(pipe, steps=2)
    draw_sd3(pipe, steps=3)
    assert attachment.evaluations == 2
