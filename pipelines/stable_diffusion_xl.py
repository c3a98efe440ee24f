"""`diffusers.StableDiffusionXLPipeline` whose call takes `guidance=`."""

from diffusers import StableDiffusionXLPipeline

from diffusion_guidance.attachment.mixin import GuidanceMixin


class GuidedStableDiffusionXLPipeline(GuidanceMixin, StableDiffusionXLPipeline):
    """See `GuidanceMixin` and `diffusers.StableDiffusionXLPipeline`."""
