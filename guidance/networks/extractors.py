"""Features of images, for evaluation: from any network that `loading` knows, or from any function."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.files import file_digest
from .loading import load, parse
from .network import Network
from .preprocessing import AS_IS, CLIP, IMAGENET, Transform


__all__ = ["CLIP", "IMAGENET", "Extractor", "Transform", "load_extractor"]


class Extractor(Network):
    """A network with its input transform, for images (B, 3, H, W) in [0, 1].

    Args:
        name: for reports; metrics of different extractors must not be compared.
        network: images as `transform` gives them -> features (B, D), or a dict with "features" and, for the Inception
            score, "logits" (B, classes).
        transform: of images (B, 3, H, W) float32 in [0, 1].
        device: where the network is.
        embed_texts: B captions -> embeddings (B, D) in the space of the features, for the CLIP score.
        weights: the module that holds them, for the identity, where `network` is another function.
    """

    transform: Callable[[torch.Tensor], torch.Tensor]

    def __init__(
        self,
        name: str,
        network: Callable[[torch.Tensor], torch.Tensor | dict[str, torch.Tensor]],
        transform: Callable[[torch.Tensor], torch.Tensor] = AS_IS,
        device: str | torch.device = "cpu",
        embed_texts: Callable[[list[str]], torch.Tensor] | None = None,
        weights: nn.Module | None = None,
    ):
        super().__init__(name, network, transform, weights=weights)
        self.device, self.embed_texts = device, embed_texts

    @cached_property
    def identity(self) -> dict[str, str | None]:
        """Name, SHA-256 of the weights and resize: features of others must not be compared. None is not known."""
        how = self.transform
        resize = f"{how.size} {how.mode}" if isinstance(how, Transform) and how.size else None
        return {"name": self.name, "weights": self.weights_hash(), "resize": resize}

    @torch.inference_mode()
    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """`features` (B, D) float32, and `logits` where the network gives them.

        Raises:
            ValueError: images or features of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected images (B, 3, H, W) in [0, 1], got {tuple(images.shape)}")
        found = self.run(self.transform(images.to(self.device, torch.float32)))
        return {name: values.float() for name, values in found.items()}


def load_extractor(
    text: str, device: str | torch.device = "cpu", size: int | None = None, **arguments: Any
) -> Extractor:
    """An extractor by its short form: `inception`, `dinov2`, `clip`, or any of `loading` that gives features.

    The name of one with a local file ends in the start of the file's SHA-256, so that runs with other weights differ.

    Args:
        size: pixels per side that images are resized to, bicubic; None for 224, or the network's own.
        arguments: more for `timm.create_model`.

    Raises:
        ValueError: another form, or weights or a package that are missing.
    """
    parts = load(text, "features", "extractor", device, size=size, **arguments)
    _, _, weights = parse(text, "features", "extractor")
    name = f"{parts.name} ({file_digest(Path(weights))[:12]})" if Path(weights).is_file() else parts.name
    return Extractor(name, parts.module, parts.transform, device, parts.embed_texts, parts.held)
