"""A small encoder of 32 x 32 images, for detectors without a foundation model."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn.functional import relu

from .preprocessing import Transform


MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class PatchEncoder(ModelMixin, ConfigMixin):
    """A sparse code of grey images: (B, 3, size, size) to features (B, 2 * filters * places).

    One layer, after Coates and Ng (Learning Feature Representations with K-means, 2012): filters of stride 2, whose
    responses are thresholded, positive and negative ones separately. At the edges of real images few filters respond,
    and strongly, so a little noise changes little; without edges or fine detail, the noise decides which respond.
    Colour is ignored: some photographs have none, and there only its noise would be seen. The mean response over the
    training images is subtracted, since otherwise all cosines are near one.

    Args:
        filters: how many.
        patch: pixels per side of a filter.
        size: pixels per side that images are resized to.
    """

    @register_to_config
    def __init__(self, filters: int = 128, patch: int = 4, size: int = 32):
        super().__init__()
        self.dictionary = nn.Conv2d(1, filters, patch, stride=2, bias=False)
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("centre", torch.zeros(2 * filters, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features of normalised images (B, 3, size, size)."""
        return (self.code(images) - self.centre).flatten(1)

    def code(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 2 * filters, rows, columns), before the mean is taken away; not negative."""
        responses = self.dictionary(images.mean(1, keepdim=True))
        return torch.cat([relu(responses - self.threshold), relu(-responses - self.threshold)], 1)

    def transform(self, size: int | None = None) -> Transform:
        """What images in [0, 1] go through first."""
        return Transform(size or self.config.size, MEAN, STD, "bilinear")
