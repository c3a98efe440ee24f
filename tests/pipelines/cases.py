"""The custom pipelines with what they are derived from, and the tiny instances that the tests run."""

from dataclasses import dataclass
from pathlib import Path

import diffusers
import torch

from diffusion_guidance import pipelines

from ..tiny_families import FAMILIES, Tiny


FOLDER = Path(pipelines.__file__).parent


@dataclass(frozen=True)
class Case:
    """A custom pipeline: its class, its file, the class it is derived from, and a tiny instance of that."""

    kind: type
    file: str
    stock: type
    tiny: Tiny

    def pipe(self, dtype: torch.dtype = torch.float32, **kwargs):
        pipe = self.kind.from_pipe(self.tiny.pipe(dtype), **kwargs)
        pipe.set_progress_bar_config(disable=True)
        return pipe


def digits_transformer(out_channels: int = 1) -> diffusers.DiTTransformer2DModel:
    transformer = diffusers.DiTTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=1,
        out_channels=out_channels,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        num_embeds_ada_norm=10,
        norm_num_groups=4,
    )
    torch.nn.init.normal_(transformer.proj_out_2.weight, std=0.1)
    return transformer


def digits() -> pipelines.ClassConditionalPipeline:
    return pipelines.ClassConditionalPipeline(digits_transformer(), diffusers.DDIMScheduler(clip_sample=False))


_TINY = {tiny.name: tiny for tiny in FAMILIES}
DIGITS = Case(
    pipelines.ClassConditionalPipeline,
    "class_conditional.py",
    diffusers.DiffusionPipeline,
    Tiny("class conditional", digits, lambda: {"class_labels": [3, 7]}),
)
DERIVED = [
    Case(
        pipelines.GuidedStableDiffusion3Pipeline,
        "stable_diffusion_3.py",
        diffusers.StableDiffusion3Pipeline,
        _TINY["StableDiffusion3"],
    ),
    Case(
        pipelines.GuidedStableDiffusionXLPipeline,
        "stable_diffusion_xl.py",
        diffusers.StableDiffusionXLPipeline,
        _TINY["StableDiffusionXL"],
    ),
    Case(pipelines.GuidedDiTPipeline, "dit.py", diffusers.DiTPipeline, _TINY["DiT"]),
    Case(pipelines.GuidedQwenImagePipeline, "qwen_image.py", diffusers.QwenImagePipeline, _TINY["QwenImage"]),
    Case(pipelines.GuidedWanPipeline, "wan.py", diffusers.WanPipeline, _TINY["Wan 2.1"]),
    Case(pipelines.GuidedWanPipeline, "wan.py", diffusers.WanPipeline, _TINY["Wan 2.2"]),
]
CASES = [*DERIVED, DIGITS]
