"""A small encoder of 32 x 32 pictures, for detectors where no foundation model can be had."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from ..evaluation.extractors import Transform


MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


class PatchEncoder(ModelMixin, ConfigMixin):
    """A residual network without batch statistics: pictures (B, 3, size, size) to features (B, 4 * width).

    As usual with SimCLR (arXiv 2002.05709) the last layer serves the training alone, and the features are those before
    it; less their mean over the training's pictures, without which all cosines are near one.

    Args:
        width: channels of the first stage; there are three, and each halves the picture and doubles them.
        projection: length of the vectors that are compared in training.
        size: pixels a side that it was trained on.
    """

    @register_to_config
    def __init__(self, width: int = 32, projection: int = 128, size: int = 32):
        super().__init__()
        wide = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            _Block(width),
            nn.Conv2d(width, 2 * width, 2, 2),
            _Block(2 * width),
            nn.Conv2d(2 * width, wide, 2, 2),
            _Block(wide),
        )
        self.norm = nn.GroupNorm(8, wide)
        self.head = nn.Linear(wide, projection)
        self.register_buffer("centre", torch.zeros(wide))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 4 * width) features of normalised pictures (B, 3, size, size)."""
        return nn.functional.silu(self.norm(self.body(images))).mean((-2, -1)) - self.centre

    def project(self, images: torch.Tensor) -> torch.Tensor:
        """(B, projection) vectors that the training's loss compares."""
        return self.head(self(images))

    def transform(self, size: int | None = None) -> Transform:
        """What pictures in [0, 1] go through first."""
        return Transform(size or self.config.size, MEAN, STD, "bilinear")


class _Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        layers = []
        for _ in range(2):
            layers += [nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, width, 3, 1, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.layers(images)
