"""A classifier of handwritten digits of 8 x 8 pixels: it guides as an off-the-shelf classifier, or judges images."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from .convolutions import convolutions
from .digits import DIGITS


class DigitsClassifier(ModelMixin, ConfigMixin):
    """A plain convolutional network with ReLU, as classifiers off the shelf are.

    Args:
        width: channels of the last stage, which is also the number of features.
    """

    @register_to_config
    def __init__(self, width: int = 64):
        super().__init__()
        self.body = convolutions(1, (width // 2, 1), (width, 2), (width, 1))
        self.head = nn.Linear(width, len(DIGITS))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, width) features: the last activation averaged over the image. `images`: (B, 1, 8, 8) in [-1, 1]."""
        if images.ndim != 4 or images.shape[1:] != (1, 8, 8):
            raise ValueError(f"expected images of shape (B, 1, 8, 8) in [-1, 1], got {tuple(images.shape)}")
        return self.body(images.to(self.dtype)).mean(dim=(-2, -1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 10) logits of images (B, 1, 8, 8) in [-1, 1]."""
        return self.head(self.features(images))
