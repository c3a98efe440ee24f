"""`diffusers.StableDiffusionXLPipeline` whose call takes `guidance=`."""

from diffusers import StableDiffusionXLPipeline

from guidance.mixin import GuidanceMixin


class GuidedStableDiffusionXLPipeline(GuidanceMixin, StableDiffusionXLPipeline):
    """See `guidance.mixin.GuidanceMixin` and `diffusers.StableDiffusionXLPipeline`."""
