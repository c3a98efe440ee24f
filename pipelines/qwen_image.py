"""`diffusers.QwenImagePipeline` whose call takes `guidance=`."""

from diffusers import QwenImagePipeline

from guidance.mixin import GuidanceMixin


class GuidedQwenImagePipeline(GuidanceMixin, QwenImagePipeline):
    """See `guidance.mixin.GuidanceMixin` and `diffusers.QwenImagePipeline`."""
