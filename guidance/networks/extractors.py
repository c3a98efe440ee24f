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


__all__ = ["CLIP", "IMAGENET", "Extractor", "Transform", "clip", "dinov2", "inception", "load_extractor"]


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
        size: pixels a side that images are resized to, bicubic; None for 224, or the network's own.
        arguments: more for `timm.create_model`.

    Raises:
        ValueError: another form, or weights or a package that are missing.
    """
    parts = load(text, "features", "extractor", device, size=size, **arguments)
    _, _, weights = parse(text, "features", "extractor")
    name = f"{parts.name} ({file_digest(Path(weights))[:12]})" if Path(weights).is_file() else parts.name
    return Extractor(name, parts.module, parts.transform, device, parts.embed_texts, parts.held)


def inception(weights: Path | None = None, device: str | torch.device = "cpu") -> Extractor:
    """Inception-V3 as FID is defined: torch-fidelity's, with the resize of TensorFlow 1 and 8-bit input; D = 2048.

    Args:
        weights: safetensors file of torch-fidelity's weights; None downloads theirs.

    Raises:
        ValueError: torch-fidelity or the weights are missing.
    """
    return _plain(f"inception:{weights or ''}", device)


def dinov2(
    weights: Path | None = None,
    device: str | torch.device = "cpu",
    name: str = "vit_large_patch14_dinov2.lvd142m",
    size: int = 224,
    **arguments: Any,
) -> Extractor:
    """A vision transformer of timm, by default DINOv2 ViT-L/14; the pooled feature, D = 1024.

    Args:
        weights: safetensors file; None downloads timm's.
        name: of any timm model that has `img_size`.
        size: pixels a side that images are resized to, bicubic.
        arguments: more for `timm.create_model`.

    Raises:
        ValueError: timm or the weights are missing, or timm knows no such model.
    """
    return _plain(f"timm:{name}:{weights or ''}", device, size=size, **arguments)


def clip(weights: Path | str = "openai", device: str | torch.device = "cpu", name: str = "ViT-L-14-336") -> Extractor:
    """CLIP by open_clip, for CMMD (its authors use ViT-L/14 at 336 pixels) and the CLIP score.

    Args:
        weights: safetensors file, or one of open_clip's tags, which it downloads.
        name: of an open_clip model.

    Raises:
        ValueError: open_clip or the weights are missing, or open_clip knows no such model.
    """
    return _plain(f"open_clip:{name}:{weights}", device)


def _plain(spec: str, device: str | torch.device, **how: Any) -> Extractor:
    parts = load(spec, "features", "extractor", device, **how)
    return Extractor(parts.name, parts.module, parts.transform, device, parts.embed_texts, parts.held)
