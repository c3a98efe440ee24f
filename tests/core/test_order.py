"""Lists with a callback that can have no effect are refused when they are attached."""

import functools

import pytest

from diffusion_guidance import CFG, RAAG, DiffIER, GuidanceInterval, Trace, attach
from diffusion_guidance.core.kinds import known_kinds
from diffusion_guidance.core.order import asks, check_order

from ..tiny import tiny_sd3


def replacing(step, proceed):
    return step.cond


def asking(step, proceed):
    return proceed(step)


def asking_from_within(step, proceed):
    return (lambda: proceed(step))()


class Object:
    def __call__(self, step, proceed):
        return proceed(step)


@pytest.mark.parametrize("dead", [[DiffIER(), RAAG(3, 1)], [GuidanceInterval(), RAAG(3, 1)], [CFG(2), CFG(3)],
                                  [Trace(), CFG(3)], [asking, replacing], [CFG(2, start=0.5), RAAG(3, 1)]])  # fmt: skip
def test_a_callback_without_effect_is_refused_at_attach(dead):
    pipe = tiny_sd3()
    first, second = (getattr(each, "__name__", type(each).__name__) for each in dead)
    with pytest.raises(ValueError, match=f"^{first} has no effect before {second}"):
        attach(pipe, dead)
    assert "step" not in vars(pipe.scheduler)
    with attach(pipe, dead[1:]):  # nothing is left behind
        pass


@pytest.mark.parametrize(
    "alive",
    [
        [RAAG(3, 1), DiffIER(), Trace()],
        [RAAG(3, 1), CFG(rescale=0.5)],
        [CFG(2), RAAG(3, 1, start=0.5)],
        [CFG(2), Object()],
        [CFG(2), functools.partial(asking)],
        [CFG(2), asking_from_within],
        [CFG(2), GuidanceInterval()],
    ],
)
def test_all_others_are_taken(alive):
    check_order(alive)


def test_what_is_seen_of_the_package_is_what_they_do():
    kinds = {name: kind for name, kind in known_kinds().items() if kind.__module__.startswith("diffusion_guidance.m")}
    asking = {name for name, kind in kinds.items() if name != "cfg" and asks(object.__new__(kind))}
    assert kinds.keys() - asking == {
        *("cfg", "raag", "apg", "cfgplusplus", "rectifiedcfg", "feedbackguidance", "dynamiccfg"),
        "autoguidance",
    }
    assert not asks(CFG(2.0)) and asks(CFG())
