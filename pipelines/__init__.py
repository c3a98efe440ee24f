"""diffusers pipelines that take `guidance=`, one small file a family; each also loads as `custom_pipeline=FILE`."""

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
]
