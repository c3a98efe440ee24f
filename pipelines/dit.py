"""`diffusers.DiTPipeline` whose call takes `guidance=`."""

from diffusers import DiTPipeline

from guidance.mixin import GuidanceMixin


class GuidedDiTPipeline(GuidanceMixin, DiTPipeline):
    """See `guidance.mixin.GuidanceMixin` and `diffusers.DiTPipeline`."""
