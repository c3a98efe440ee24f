"""`diffusers.WanPipeline` whose call takes `guidance=`."""

from diffusers import WanPipeline

from diffusion_guidance.attachment.mixin import GuidanceMixin


class GuidedWanPipeline(GuidanceMixin, WanPipeline):
    """See `GuidanceMixin` and `diffusers.WanPipeline`."""
