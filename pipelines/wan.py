"""`diffusers.WanPipeline` whose call takes `guidance=`."""

from diffusers import WanPipeline

from guidance.mixin import GuidanceMixin


class GuidedWanPipeline(GuidanceMixin, WanPipeline):
    """See `guidance.mixin.GuidanceMixin` and `diffusers.WanPipeline`."""
