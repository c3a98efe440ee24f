import functools
from collections import deque
from types import SimpleNamespace

import pytest
import torch

from diffusion_guidance.attachment.leaves import Mark, is_library, leaves_of


GLOBAL = {}


class Manager:
    def __init__(self, **state):
        vars(self).update(state)

    def method(self, *args):
        pass


def reads_a_global():
    return GLOBAL


def closing_over(value):
    return lambda: value


def with_default(value=deque()):  # noqa: B006 (that is what is looked for)
    return value


HOLDERS = {
    "an object": lambda tensor: Manager(tensor=tensor),
    "an object in an object": lambda tensor: Manager(inner=Manager(entries=[{"one": tensor}])),
    "a namespace": lambda tensor: SimpleNamespace(tensor=tensor),
    "a closure": closing_over,
    "a method": lambda tensor: Manager(tensor=tensor).method,
    "a partial": lambda tensor: functools.partial(print, tensor),
    "what a partial calls": lambda tensor: functools.partial(closing_over(tensor)),
    "a global": lambda tensor: GLOBAL.update(tensor=tensor) or reads_a_global,
    "a default": lambda tensor: with_default.__defaults__[0].append(tensor) or with_default,
    "a key that is no text": lambda tensor: {(1, 2): tensor},
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_tensors_are_found_wherever_they_are_and_seen_to_change(holder):
    tensor = torch.ones(2)
    held = holder(tensor)
    before = leaves_of(held)
    assert Mark(tensor) in before.values() and leaves_of(held) == before
    tensor.mul_(2)
    assert leaves_of(held) != before


def test_another_tensor_of_the_same_values_is_another():
    held = Manager(tensor=torch.ones(2))
    before = leaves_of(held)
    held.tensor = held.tensor.clone()
    assert leaves_of(held) != before


def test_in_inference_mode_writing_is_seen_in_the_values():
    with torch.inference_mode():
        held = [torch.ones(2)]
        before = leaves_of(held)
        assert leaves_of(held) == before
        held[0] += 1
        assert leaves_of(held) != before


def test_circles_modules_and_long_lists_end():
    circle = Manager(module=torch.nn.Linear(2, 2), many=list(range(10**6)))
    circle.self = circle
    assert len(leaves_of(circle)) == 1001


def test_who_wrote_a_function_does_not_depend_on_what_it_wraps():
    wrapped = functools.wraps(torch.nn.Linear.forward)(closing_over(1))
    assert wrapped.__module__ == "torch.nn.modules.linear" and not is_library(wrapped)
    assert is_library(torch.nn.functional.silu) and is_library(functools.partial(torch.nn.Linear.forward, None))
    assert is_library(torch.nn.Linear(1, 1).forward) and not is_library(Manager().method)
