"""A pipeline that steps copies of its scheduler, as SkyReelsV2's diffusion forcing does, is refused."""

import copy

import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline

from diffusion_guidance import CFG, attach


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.calls = 0
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, sample, timestep):
        self.calls += 1
        return (self.weight * sample,)


class Copies(DiffusionPipeline):
    def __init__(self, transformer, scheduler):
        super().__init__()
        self.register_modules(transformer=transformer, scheduler=scheduler)

    @torch.no_grad()
    def __call__(self, steps: int, copied: bool = True, stop: bool = False):
        self.scheduler.set_timesteps(steps)
        scheduler = copy.deepcopy(self.scheduler) if copied else self.scheduler
        sample = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
        for t in scheduler.timesteps:
            cond, uncond = (self.transformer(scale * sample, t)[0] for scale in (1.0, 0.5))
            if stop:
                raise KeyError("mine")
            sample = scheduler.step(uncond + 3 * (cond - uncond), t, sample).prev_sample
        return sample


@pytest.fixture
def pipe():
    return Copies(Network(), DDIMScheduler())


def test_a_long_run_is_refused_early(pipe):
    expected = "Copies called its transformer 9 times or more without a step"
    with pytest.raises(RuntimeError, match=expected), attach(pipe, CFG(3.0)):
        pipe(20)
    assert pipe.transformer.calls <= 10
    assert pipe(2).isfinite().all()  # nothing is left


def test_a_short_run_is_refused_on_leaving(pipe):
    with pytest.raises(RuntimeError, match="steps another one, such as a copy of it"), attach(pipe, CFG(3.0)):
        pipe(2)
    assert pipe(2).isfinite().all()


def test_the_users_own_error_comes_first(pipe):
    with pytest.raises(KeyError, match="mine"), attach(pipe, CFG(3.0)):
        pipe(20, stop=True)


def test_neither_a_broken_off_run_nor_a_network_called_alone_is_mistaken(pipe):
    with attach(pipe, CFG(3.0)), pytest.raises(KeyError):
        pipe(20, stop=True)
    with attach(pipe, CFG(3.0)), torch.no_grad():
        for _ in range(12):
            pipe.transformer(torch.zeros(1, 4, 8, 8), 0)
