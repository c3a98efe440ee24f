"""What a tiny pipeline must tell the tests about itself."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True, eq=False)
class Tiny:
    """A pipeline of the real diffusers class with random weights, and how to call it without text encoders.

    Attributes:
        name: of the family, or the variant.
        family: name of the family.
        build: makes the pipeline, in float32.
        inputs: makes the arguments of its call, in float32.
        scale: the arguments that switch guidance on, and set its weight.
        plain: the arguments that switch it off.
        weight: the weight w in `uncond + w * (cond - uncond)`.
        cond_first: whether the network is given the conditional half first.
        exact: whether attached plain guidance equals the pipeline's to the last bit.
        output: the pipeline's `output_type`.
        notes: what a reader of the results should know.
    """

    name: str
    build: Callable
    inputs: Callable[[], dict]
    family: str = ""
    scale: dict = field(default_factory=lambda: {"guidance_scale": 5.0})
    plain: dict = field(default_factory=lambda: {"guidance_scale": 1.0})
    weight: float = 5.0
    cond_first: bool = False
    exact: bool = True
    output: str = "latent"
    notes: str = ""

    def pipe(self, dtype: torch.dtype = torch.float32):
        torch.manual_seed(0)
        pipe = self.build()
        pipe.set_progress_bar_config(disable=True)
        for component in pipe.components.values():
            if isinstance(component, torch.nn.Module):
                component.to(dtype).eval().requires_grad_(False)
        return pipe

    def draw(self, pipe, steps: int = 3, guided: bool = True, dtype=None, **kwargs) -> torch.Tensor:
        """Final latents (DiT has no latent output: images). The inputs are in `dtype`, that of the network."""
        dtype = dtype or next(parameter.dtype for parameter in _network(pipe).parameters())
        torch.manual_seed(0)
        arguments = {name: _cast(value, pipe._execution_device, dtype) for name, value in self.inputs().items()}
        arguments |= self.scale if guided else self.plain
        arguments |= {"num_inference_steps": steps, "generator": torch.Generator().manual_seed(1)}
        arguments |= {"output_type": self.output, "return_dict": False}
        return pipe(**arguments | kwargs)[0]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def embeddings(tokens: int, width: int, names=("prompt_embeds", "negative_prompt_embeds"), batch: int = 2) -> dict:
    return {name: randn(batch, tokens, width, seed=seed) for seed, name in enumerate(names)}


def _network(pipe) -> torch.nn.Module:
    return getattr(pipe, "unet", None) or pipe.transformer


def _cast(value, device: torch.device, dtype: torch.dtype):
    if isinstance(value, list):
        return [_cast(entry, device, dtype) for entry in value]
    if not isinstance(value, torch.Tensor):
        return value
    return value.to(device, dtype if value.is_floating_point() else value.dtype)


def relative_error(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference over the largest value."""
    return ((result.float() - expected.float()).abs().max() / expected.float().abs().max()).item()
