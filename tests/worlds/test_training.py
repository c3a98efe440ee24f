import json

import pytest
import torch

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
