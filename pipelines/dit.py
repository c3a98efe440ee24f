"""`diffusers.DiTPipeline` whose call takes `guidance=`."""

from diffusers import DiTPipeline

from diffusion_guidance.attachment.mixin import GuidanceMixin


class GuidedDiTPipeline(GuidanceMixin, DiTPipeline):
    """See `GuidanceMixin` and `diffusers.DiTPipeline`."""
