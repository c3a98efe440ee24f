"""Loops that use nothing of the package: exact velocities of a mixture, and a tiny noise network with DDIM."""

import itertools
from collections.abc import Callable, Iterator

import torch

from diffusion_guidance import attach

from ..gaussian import GaussianPipeline
from ..tiny_families import FAMILIES


MEANS = 1.5 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0])
SPREAD = 0.7
BY_NAME = {tiny.name: tiny for tiny in FAMILIES}


def noise() -> torch.Tensor:
    return torch.randn(len(LABELS), MEANS.shape[1], generator=torch.Generator().manual_seed(1))


def sample(guidance, steps: int = 8, weight: float = 2.0, dtype=torch.float32) -> tuple[torch.Tensor, int]:
    """Final samples of the mixture, and the evaluations that the callbacks asked for."""
    pipe = GaussianPipeline(MEANS.to(dtype), SPREAD)
    with attach(pipe, guidance) as attachment:
        return pipe(LABELS, noise().to(dtype), steps, weight).images, attachment.evaluations


def velocities(x: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
    """(v_c, v_u) at x (B, D) in float64."""
    means = MEANS.double()
    variance = (1 - t) ** 2 * SPREAD**2 + t**2
    offset = x[:, None] - (1 - t) * means
    logits = -offset.square().sum(-1) / (2 * variance)
    estimates = means + (1 - t) * SPREAD**2 / variance * offset
    cond = estimates[range(len(x)), LABELS]
    uncond = (logits.softmax(1)[..., None] * estimates).sum(1)
    return (x - cond) / t, (x - uncond) / t


def flow_times(steps: int) -> Iterator[tuple[float, float]]:
    pipe = GaussianPipeline(MEANS, SPREAD)
    pipe.scheduler.set_timesteps(steps)
    return itertools.pairwise(pipe.scheduler.sigmas.double().tolist())


def noise_network(steps: int, prediction_type: str = "epsilon") -> tuple[Callable, Callable, list]:
    """(draw, eps, levels): a tiny Stable Diffusion with DDIM, whose network's output is taken as `prediction_type`.

    `draw(guidance)` gives (first, final) latents; `eps(x, k)` the two noises (c, u) at step k; `levels` the (alpha,
    sigma) of each step in float64, and of the result.
    """
    tiny = BY_NAME["StableDiffusion"]
    pipe = tiny.pipe()
    pipe.scheduler.register_to_config(prediction_type=prediction_type)
    inputs = tiny.inputs()
    states = torch.cat([inputs["prompt_embeds"], inputs["negative_prompt_embeds"]])
    first = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    pipe.scheduler.set_timesteps(steps)
    times = pipe.scheduler.timesteps.tolist()
    abar = pipe.scheduler.alphas_cumprod.double()
    levels = [(abar[t].sqrt(), (1 - abar[t]).sqrt()) for t in times]
    final = pipe.scheduler.final_alpha_cumprod.double()
    levels.append((final.sqrt(), (1 - final).sqrt()))

    def eps(x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        both = torch.cat([x, x]).float()
        with torch.no_grad():
            found = pipe.unet(both, times[k], encoder_hidden_states=states).sample.double()
        (alpha, sigma), x = levels[k], both.double()
        as_noise = {"v_prediction": alpha * found + sigma * x, "sample": (x - alpha * found) / sigma}
        return as_noise.get(prediction_type, found).chunk(2)

    def draw(guidance) -> tuple[torch.Tensor, torch.Tensor]:
        with attach(pipe, guidance):
            return first, tiny.draw(pipe, steps=steps, latents=first)

    return draw, eps, levels
