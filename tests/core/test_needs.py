"""Which lists of callbacks read the unconditional prediction, said beforehand."""

import pytest
import torch

from diffusion_guidance import CFG, RAAG, Callback, CFGNorm, GuidanceInterval, Trace
from diffusion_guidance.core.needs import Upcoming, needs_unconditional


def plain(step, proceed):
    return proceed(step)


@pytest.mark.parametrize(
    ("callbacks", "needed"),
    [
        ([], [True, True, True, True]),
        ([plain], [True, True, True, True]),
        ([CFG(3.0)], [True, True, True, True]),
        ([CFG(1.0)], [False, False, False, False]),
        ([CFG([3.0, 1.0, 3.0, 1])], [True, False, True, False]),
        ([CFG([3.0, 1.0])], [True, False, False, False]),
        ([CFG([1.0, 1.0], along=2)], [True, True, True, True]),
        ([CFG(lambda step: 1.0)], [True, True, True, True]),
        ([CFG(1.0, start=0.5)], [True, True, False, False]),
        ([CFG(1.0), Trace()], [False, False, False, False]),
        ([CFG(1.0), CFGNorm()], [False, False, False, False]),
        ([CFG(1.0), plain], [True, True, True, True]),
        ([CFG(3.0), CFG(rescale=0.5)], [True, True, True, True]),
        ([RAAG(3, 1), CFG(1.0, stop=0.5)], [False, False, True, True]),
        ([CFG(3.0), GuidanceInterval(0.5, 2.0)], [False, True, True, False]),
        ([CFG(1.0), GuidanceInterval(0.5, 2.0)], [False, False, False, False]),
        ([CFG(3.0), GuidanceInterval(0.5, None)], [True, True, True, False]),
        ([GuidanceInterval(0.5, 2.0)], [False, True, True, False]),
    ],
)
def test_what_is_said(callbacks, needed):
    levels = [(torch.tensor(1.0), torch.tensor(sigma)) for sigma in (4.0, 2.0, 1.0, 0.5)]
    said = [needs_unconditional(callbacks, Upcoming(index, 4, lambda index=index: levels[index])) for index in range(4)]
    assert said == needed


def test_a_level_that_is_not_known_is_needed():
    assert needs_unconditional([GuidanceInterval(0.5, 2.0)], Upcoming(0, 4))


def test_a_callback_of_the_users_reads_it_unless_it_says_otherwise():
    class Mine(Callback):
        def guide(self, step, proceed):
            return step.cond

    class Says(Mine):
        def reads(self, upcoming):
            return False

    assert needs_unconditional([Mine()], Upcoming(0, 4))
    assert not needs_unconditional([Says()], Upcoming(0, 4))
