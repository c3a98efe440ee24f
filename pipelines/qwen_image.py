"""`diffusers.QwenImagePipeline` whose call takes `guidance=`."""

from diffusers import QwenImagePipeline

from diffusion_guidance.attachment.mixin import GuidanceMixin


class GuidedQwenImagePipeline(GuidanceMixin, QwenImagePipeline):
    """See `GuidanceMixin` and `diffusers.QwenImagePipeline`."""
