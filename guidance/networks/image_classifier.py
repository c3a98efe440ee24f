"""Any image classifier as guidance sees it: images in [-1, 1] in, logits out, differentiable.

Guidance works with every function of (B, C, H, W) in [-1, 1] that returns logits (B, K). `ImageClassifier` makes such a
function of a network that needs another range, another size, or three channels.
"""

from collections.abc import Callable

import torch
from torch import nn

from ..core.combine import widened
from .network import Network
from .preprocessing import Normalise, preset, resized


__all__ = ["ImageClassifier", "Normalise", "preset"]


class ImageClassifier(Network):
    """`module` behind the input that guidance gives: (B, C, H, W) in [-1, 1] -> logits (B, K).

    The image is resized, a single channel is repeated, and the transform is applied; all of it in float32 (float64
    for float64 images), outside autocast, and differentiable. Nothing is clipped: a gradient must pass where an
    estimate leaves [-1, 1].

    Args:
        module: a classifier in eval mode, which is not changed. It returns logits, or an object with `logits`
            (transformers).
        transform: from images in [-1, 1] to the module's input, applied last: "authors" (unchanged, as the authors of
            EluCD, arXiv 2310.11311, feed a torchvision ResNet), "imagenet" or "clip" (their mean and standard
            deviation), or a callable such as `Normalise`.
        size: pixels per side that images are resized to (bicubic, with antialiasing), whole, not cropped; None leaves
            the size alone.
        channels: an image of one channel is repeated this often; None for 3, except for "authors", which leaves it
            alone.
        name: for reports; None for the class of the module.

    Raises:
        ValueError: an unknown transform, or a module in training mode.
    """

    module: nn.Module

    def __init__(
        self,
        module: nn.Module,
        transform: str | Callable[[torch.Tensor], torch.Tensor] = "authors",
        size: int | None = None,
        channels: int | None = None,
        name: str | None = None,
    ):
        if training := [path or type(part).__name__ for path, part in module.named_modules() if part.training]:
            raise ValueError(f"the classifier is in training mode ({training[0]}); call eval() on it first")
        super().__init__(name or type(module).__name__, module, transform, head="logits")
        self.size = size
        self._apply_transform = transform if callable(transform) else preset(transform)
        self.channels = channels or (1 if transform == "authors" else 3)
        self.eval()  # only this wrapper: the module's parts are in eval mode already

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, K) logits, in float32 (float64 for a module in float64).

        Raises:
            ValueError: `images` is not (B, C, H, W), or what the module returned is not (B, K).
        """
        if images.ndim != 4:
            raise ValueError(f"a classifier reads images (B, C, H, W) in [-1, 1], got {tuple(images.shape)}")
        with torch.autocast(images.device.type, enabled=False):
            inputs = self.module_input(images)
        return widened(self.run(inputs)["logits"])

    def module_input(self, images: torch.Tensor) -> torch.Tensor:
        """What the module gets for `images`, in the dtype of its parameters."""
        images = resized(widened(images), self.size)
        if images.shape[1] == 1:
            images = images.expand(-1, self.channels, -1, -1)
        images = self._apply_transform(images)
        floating = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return images.to(next(floating, images.dtype))

    def identity(self) -> dict:
        """What distinguishes this classifier from others, JSON-serialisable: name, input, SHA-256 of the weights."""
        return {
            "name": self.name,
            "transform": self.preprocessing(),
            "size": self.size,
            "channels": self.channels,
            "weights_sha256": self.weights_hash(),
        }
