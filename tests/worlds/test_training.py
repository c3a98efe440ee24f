import json

import pytest
import torch
from diffusers.optimization import get_cosine_schedule_with_warmup

from diffusion_guidance.worlds.training import Plan, train


class Stop(Exception):
    pass


def fit(folder, steps: int = 40, stop_at: int | None = None, plan_steps: int = 40):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    calls = 0

    def loss(generator):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            raise Stop
        x = torch.randn(16, 3, generator=generator)
        return (model(x) - x.sum(1, keepdim=True)).square().mean()

    plan = Plan(steps=plan_steps, learning_rate=1e-2, warmup=5, average=0.9, save_every=10, log_every=10)
    return train(model, loss, plan, folder), calls


def test_a_killed_run_ends_with_the_same_weights(tmp_path):
    undisturbed, _ = fit(tmp_path / "a")
    with pytest.raises(Stop):
        fit(tmp_path / "b", stop_at=26)  # saved at step 20
    resumed, calls = fit(tmp_path / "b")
    assert calls == 20
    for one, other in zip(undisturbed.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_it_learns_and_logs(tmp_path):
    fit(tmp_path / "long", plan_steps=300)
    log = [json.loads(line) for line in (tmp_path / "long" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 300 and log[-1]["loss"] < log[0]["loss"] / 10


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    model = torch.nn.Linear(1, 1)
    with pytest.raises(RuntimeError, match="non-finite"):
        train(model, lambda _: model(torch.full((1, 1), torch.inf)).sum(), Plan(3, 1e-2), tmp_path)


def test_a_finished_run_is_not_trained_again(tmp_path):
    first, _ = fit(tmp_path / "a")
    again, calls = fit(tmp_path / "a")
    assert calls == 0
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_rate_is_diffusers_cosine():
    plan = Plan(steps=40, learning_rate=1e-2, warmup=5)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=plan.learning_rate)
    schedule = get_cosine_schedule_with_warmup(optimizer, plan.warmup, plan.steps)
    for step in range(plan.steps + 1):
        assert plan.rate(step) == pytest.approx(schedule.lr_lambdas[0](step) * plan.learning_rate)


def test_with_decay_the_rate_is_constant_and_falls_at_the_end():
    plan = Plan(steps=40, learning_rate=1.0, warmup=5, decay=10)
    assert [plan.rate(step) for step in (0, 1, 5, 30, 35, 39, 40)] == [0, 0.2, 1, 1, 0.5, 0.1, 0]


def test_a_constant_rate_can_be_continued_as_if_it_had_never_stopped(tmp_path):
    def run(folder, steps):
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 1)

        def loss(generator):
            x = torch.randn(16, 3, generator=generator)
            return (model(x) - x.sum(1, keepdim=True)).square().mean()

        return train(model, loss, Plan(steps=steps, learning_rate=1e-2, warmup=5, decay=0), folder)

    run(tmp_path / "a", 13)
    for one, other in zip(run(tmp_path / "a", 30).parameters(), run(tmp_path / "b", 30).parameters(), strict=True):
        assert torch.equal(one, other)
