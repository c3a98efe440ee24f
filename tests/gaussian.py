"""A world where everything is closed form: a mixture of Gaussians, its exact velocity, and a pipeline around it."""

from types import SimpleNamespace

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from diffusion_guidance import Family, register_family


class GaussianVelocity(torch.nn.Module):
    """Exact flow velocity E[eps - x0 | x_t] of a mixture of K Gaussians N(mean_k, spread^2) in D dimensions.

    Label k < K is the single component k; label K is the whole mixture, all components equally likely.
    """

    def __init__(self, means: torch.Tensor, spread: float):
        super().__init__()
        self.register_buffer("means", means)
        self.spread = spread

    def forward(self, hidden_states: torch.Tensor, timestep: torch.Tensor, labels: torch.Tensor) -> tuple:
        x, t = hidden_states.to(self.means.dtype), (timestep.to(self.means.dtype) / 1000)[:, None]
        variance = (1 - t) ** 2 * self.spread**2 + t**2  # of x_t within a component
        offset = x[:, None] - (1 - t)[:, None] * self.means  # (B, K, D)
        logits = -offset.square().sum(-1) / (2 * variance)
        allowed = (labels[:, None] == torch.arange(len(self.means))) | (labels[:, None] == len(self.means))
        share = logits.masked_fill(~allowed, -torch.inf).softmax(-1)
        denoised = self.means + ((1 - t) * self.spread**2 / variance)[:, None] * offset
        x0 = (share[..., None] * denoised).sum(1)
        return (((x - x0) / t).to(hidden_states.dtype),)


class GaussianPipeline:
    """Classifier-free guidance on `GaussianVelocity`, in the form of a diffusers pipeline."""

    def __init__(self, means: torch.Tensor, spread: float = 0.3):
        self.transformer = GaussianVelocity(means, spread)
        self.scheduler = FlowMatchEulerDiscreteScheduler()

    @torch.no_grad()
    def __call__(self, labels, latents, num_inference_steps: int = 10, guidance_scale: float = 2.0):
        labels = torch.as_tensor(labels)
        null = torch.full_like(labels, len(self.transformer.means))
        guided = guidance_scale > 1
        self.scheduler.set_timesteps(num_inference_steps)
        for t in self.scheduler.timesteps:
            x = torch.cat([latents, latents]) if guided else latents
            both = torch.cat([null, labels]) if guided else labels
            v = self.transformer(hidden_states=x, timestep=t.expand(len(x)), labels=both)[0]
            if guided:
                uncond, cond = v.chunk(2)
                v = uncond + guidance_scale * (cond - uncond)
            latents = self.scheduler.step(v, t, latents, return_dict=False)[0]
        return SimpleNamespace(images=latents)


register_family(
    Family(
        pipelines=("GaussianPipeline",),
        denoiser="transformer",
        sample="hidden_states",
        timestep="timestep",
        enable="guidance_scale above 1",
        prediction_type="flow_prediction",
    )
)
