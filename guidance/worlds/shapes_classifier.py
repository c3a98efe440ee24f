"""A classifier of attributes in the shapes world: measures alignment, gives features for the Frechet distance."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from .convolutions import convolutions
from .shapes import BACKGROUNDS, COLOURS, SHAPES, parse_captions


class ShapesClassifier(ModelMixin, ConfigMixin):
    """A plain convolutional network with one head for the four quadrants and one for the background.

    Args:
        width: channels of the last stage, which is also the number of features.
    """

    @register_to_config
    def __init__(self, width: int = 64):
        super().__init__()
        self.body = convolutions(3, (width // 2, 1), (width, 2), (width, 1), (width, 2), (width, 1))
        self.quadrant = nn.Linear(width, 2 + len(SHAPES) + len(COLOURS))
        self.background = nn.Linear(width, len(BACKGROUNDS))

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, width) features: the last activation averaged over the image. `images`: (B, 3, 32, 32) in [0, 1]."""
        return self._body(images).mean(dim=(-2, -1))

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Nine logit tensors in the order of `Scenes.attributes`: shape and colour of each quadrant, background.

        Args:
            images: (B, 3, 32, 32) in [0, 1].
        """
        hidden = self._body(images)
        quadrants = nn.functional.adaptive_avg_pool2d(hidden, 2).flatten(2).transpose(1, 2)  # (B, 4, width)
        logits = self.quadrant(quadrants).split([1 + len(SHAPES), 1 + len(COLOURS)], dim=-1)
        pairs = [part[:, i] for i in range(4) for part in logits]
        return [*pairs, self.background(hidden.mean(dim=(-2, -1)))]

    def read(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 9) int64 attributes as `Scenes.attributes` gives them."""
        return torch.stack([logits.argmax(-1) for logits in self(images)], dim=1)

    def _body(self, images: torch.Tensor) -> torch.Tensor:
        if images.ndim != 4 or images.shape[1:] != (3, 32, 32):
            raise ValueError(f"expected images of shape (B, 3, 32, 32) in [0, 1], got {tuple(images.shape)}")
        return self.body(images.to(self.dtype) * 2 - 1)


def aligned(classifier: ShapesClassifier, images: torch.Tensor, captions: list[str]) -> torch.Tensor:
    """(B,) bool: whether every attribute of an image is the one that its caption asks for.

    Its mean is the alignment of the shapes world.

    Args:
        classifier: reads the images.
        images: (B, 3, 32, 32) in [0, 1].
        captions: B sentences of the shapes world.

    Raises:
        ValueError: a caption is not of this world, or the numbers of images and captions differ.
    """
    if len(captions) != len(images):
        raise ValueError(f"{len(images)} images but {len(captions)} captions")
    return (classifier.read(images) == parse_captions(captions).to(images.device)).all(dim=1)
