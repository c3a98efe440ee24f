"""diffusers pipelines that take `guidance=`, one small file a family; each also loads as `custom_pipeline=FILE`."""

from typing import TYPE_CHECKING

from diffusion_guidance.core.lazy import lazy


if TYPE_CHECKING:
    from .class_conditional import ClassConditionalPipeline
    from .dit import GuidedDiTPipeline
    from .loading import load_pipeline
    from .qwen_image import GuidedQwenImagePipeline
    from .stable_diffusion_3 import GuidedStableDiffusion3Pipeline
    from .stable_diffusion_xl import GuidedStableDiffusionXLPipeline
    from .wan import GuidedWanPipeline


__getattr__, __dir__ = lazy(__name__, __file__)

__all__ = [
    "ClassConditionalPipeline",
    "GuidedDiTPipeline",
    "GuidedQwenImagePipeline",
    "GuidedStableDiffusion3Pipeline",
    "GuidedStableDiffusionXLPipeline",
    "GuidedWanPipeline",
    "load_pipeline",
]
