import pytest
import torch

from diffusion_guidance import Callback, DiffIER, attach
from diffusion_guidance.core.memory import Remembers

from ..gaussian import GaussianPipeline


class Counting(Remembers, Callback):
    """Notes at each call what it recalls, and counts."""

    def __init__(self, start: float = 0.0, stop: float = 1.0):
        super().__init__(start, stop)
        self.seen: list[tuple[int, bool, int | None]] = []

    def guide(self, step, proceed):
        found = self.recalled(step)
        self.seen.append((step.index, step.elsewhere, found))
        self.remember(step, (found or 0) + 1)
        return proceed(step)


@pytest.fixture(autouse=True)
def _kinds(monkeypatch):
    monkeypatch.delitem(Callback.kinds, "counting", raising=False)


def run(guidance, steps: int = 4, pipe=None):
    pipe = pipe or GaussianPipeline(torch.eye(3))
    with attach(pipe, guidance):
        for _ in range(2):
            pipe([0, 1, 2], torch.zeros(3, 3), steps)


def test_a_state_goes_from_step_to_step_and_a_run_starts_without_one():
    counting = Counting()
    run(counting, 3)
    assert counting.seen == [(0, False, None), (1, False, 1), (2, False, 2)] * 2


def test_a_window_that_starts_late_starts_without_one_too():
    counting = Counting(start=0.5)
    run(counting, 4)
    assert counting.seen == [(2, False, None), (3, False, 1)] * 2
    counting.seen.clear()
    run(counting, 8)
    assert [found for *_, found in counting.seen] == [None, 1, 2, 3] * 2


def test_an_evaluation_elsewhere_sees_the_state_and_leaves_none():
    counting = Counting()
    run([counting, DiffIER(iterations=2)], 3)
    assert [found for *_, found in counting.seen] == [None, 1, 1, 1, 2, 2, 2] * 2


def test_asked_twice_in_a_step_it_starts_from_the_same_state():
    counting = Counting()

    def twice(step, proceed):
        proceed(step)
        return proceed(step)

    run([counting, twice], 3)
    assert [found for *_, found in counting.seen] == [None, None, 1, 1, 2, 2] * 2


def test_a_run_that_broke_off_leaves_nothing():
    counting, pipe = Counting(), GaussianPipeline(torch.eye(3))

    def fail(step, proceed):
        if step.index == 2:
            raise InterruptedError
        return proceed(step)

    with attach(pipe, [counting, fail]):
        for _ in range(2):
            with pytest.raises(InterruptedError):
                pipe([0, 1, 2], torch.zeros(3, 3), 4)
    assert [found for *_, found in counting.seen] == [None, 1] * 2
