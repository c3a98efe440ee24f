"""A classifier of name and style in the emoji world: measures alignment, gives features for the Frechet distance."""

from collections.abc import Sequence

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from .convolutions import convolutions
from .emoji import SIZE, STYLES


class EmojiJudge(ModelMixin, ConfigMixin):
    """A plain convolutional network with one head for the name and one for the style.

    Args:
        captions: pairs of style and name that the checkpoint was trained on, in the order in which seeds ask for them.
        held_out: pairs that it was not trained on, of the same names.
        width: channels of the last stage, a multiple of 48, which is also the number of features.
    """

    @register_to_config
    def __init__(self, captions: Sequence[str], held_out: Sequence[str] = (), width: int = 192):
        super().__init__()
        self.names = sorted({caption.split(" ", 1)[1] for caption in captions})
        third = width // 3
        stages = ((third // 2, 2), (third, 2), (third, 1), (2 * third, 2), (2 * third, 1), (width, 2), (width, 1))
        self.body = convolutions(3, *stages)
        self.name_head = nn.Linear(width, len(self.names))
        self.style_head = nn.Linear(width, len(STYLES))

    def labels(self, captions: Sequence[str]) -> torch.Tensor:
        """(B, 2) int64: name and style of `captions`. Raises ValueError for a name or style that it does not know."""
        names = {name: i for i, name in enumerate(self.names)}
        styles = {style: i for i, style in enumerate(STYLES)}
        pairs = [caption.partition(" ")[::2] for caption in captions]
        if unknown := [" ".join(pair) for pair in pairs if pair[0] not in styles or pair[1] not in names]:
            raise ValueError(f"the judge of the emoji world does not know {unknown[0]!r}")
        return torch.tensor([[names[name], styles[style]] for style, name in pairs]).reshape(-1, 2)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, width) features: the last activation averaged over the image. `images`: (B, 3, 64, 64) in [0, 1]."""
        if images.ndim != 4 or images.shape[1:] != (3, SIZE, SIZE):
            raise ValueError(f"expected images of shape (B, 3, {SIZE}, {SIZE}) in [0, 1], got {tuple(images.shape)}")
        return self.body(images.to(self.dtype) * 2 - 1).mean(dim=(-2, -1))

    def heads(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of names (B, names) and of styles (B, 4) for features (B, width)."""
        return self.name_head(features), self.style_head(features)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of names and of styles for images (B, 3, 64, 64) in [0, 1]."""
        return self.heads(self.features(images))
