"""`diffusers.StableDiffusion3Pipeline` whose call takes `guidance=`."""

from diffusers import StableDiffusion3Pipeline

from diffusion_guidance.attachment.mixin import GuidanceMixin


class GuidedStableDiffusion3Pipeline(GuidanceMixin, StableDiffusion3Pipeline):
    """See `GuidanceMixin` and `diffusers.StableDiffusion3Pipeline`."""
