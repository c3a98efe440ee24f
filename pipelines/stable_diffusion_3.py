"""`diffusers.StableDiffusion3Pipeline` whose call takes `guidance=`."""

from diffusers import StableDiffusion3Pipeline

from guidance.mixin import GuidanceMixin


class GuidedStableDiffusion3Pipeline(GuidanceMixin, StableDiffusion3Pipeline):
    """See `guidance.mixin.GuidanceMixin` and `diffusers.StableDiffusion3Pipeline`."""
