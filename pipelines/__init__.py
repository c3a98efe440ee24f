"""diffusers pipelines that take `guidance=`, one small file a family; each also loads as `custom_pipeline=FILE`."""

from diffusers import DiffusionPipeline

from .class_conditional import ClassConditionalPipeline
from .dit import GuidedDiTPipeline
from .qwen_image import GuidedQwenImagePipeline
from .stable_diffusion_3 import GuidedStableDiffusion3Pipeline
from .stable_diffusion_xl import GuidedStableDiffusionXLPipeline
from .wan import GuidedWanPipeline


__all__ = [
    "ClassConditionalPipeline",
    "GuidedDiTPipeline",
    "GuidedQwenImagePipeline",
    "GuidedStableDiffusion3Pipeline",
    "GuidedStableDiffusionXLPipeline",
    "GuidedWanPipeline",
    "load",
]


def load(name: str, **kwargs) -> DiffusionPipeline:
    """`from_pretrained(name, **kwargs)` of the class that the checkpoint names: one of these, or diffusers' own."""
    kind = DiffusionPipeline.load_config(name)["_class_name"]
    ours = kind in __all__ if isinstance(kind, str) else False  # a list names a custom pipeline's file too
    return (globals()[kind] if ours else DiffusionPipeline).from_pretrained(name, **kwargs)
