"""Any image classifier as guidance sees it: pictures in [-1, 1] in, logits out, differentiable, and told apart by name.

Guidance works with every function of (B, C, H, W) in [-1, 1] that returns logits (B, K). `ImageClassifier` makes such a
function of a network that wants another range, another size, or three channels.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

from ..core.combine import widened
from .weights import weights_sha256


class Normalise(nn.Module):
    """Pictures in [-1, 1] as a network trained on `((x + 1) / 2 - mean) / std` wants them; one number a channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        # On the device of the classifier: numbers made into a tensor in each call would make the host wait.
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return ((pictures + 1) / 2 - self.mean) / self.std


def preset(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The transform "authors", "imagenet" or "clip"; see `ImageClassifier`. Raises ValueError for another name."""
    from .extractors import CLIP, IMAGENET  # lazy: the package beside it is slow to import

    presets = {"authors": lambda pictures: pictures, "imagenet": Normalise(*IMAGENET), "clip": Normalise(*CLIP)}
    if name not in presets:
        raise ValueError(f"transform must be {', '.join(presets)} or a callable, got {name!r}")
    return presets[name]


class ImageClassifier(nn.Module):
    """`module` behind the input that guidance gives: (B, C, H, W) in [-1, 1] -> logits (B, K).

    The picture is resized, a single channel is repeated, and the transform is applied; all of it in float32 (float64
    for float64 pictures), outside autocast, and differentiable. Nothing is clipped: a gradient must pass where an
    estimate leaves [-1, 1].

    Args:
        module: a classifier in eval mode, which is not changed. What it returns may be logits, or an object with
            `logits` (transformers).
        transform: from pictures in [-1, 1] to the module's input, the last thing done: "authors" (as they are: so the
            authors of EluCD, arXiv 2310.11311, feed a torchvision ResNet), "imagenet" or "clip" (mean and standard
            deviation of those), or a callable such as `Normalise`.
        size: pixels a side that pictures are resized to (bicubic, with antialiasing), whole, not cropped; None leaves
            the size alone.
        channels: a picture of one channel is repeated this often; None for 3, but for "authors", which leaves it alone.
        name: for reports; None for the class of the module.

    Raises:
        ValueError: an unknown transform, or a module in training mode.
    """

    def __init__(
        self,
        module: nn.Module,
        transform: str | Callable[[torch.Tensor], torch.Tensor] = "authors",
        size: int | None = None,
        channels: int | None = None,
        name: str | None = None,
    ):
        super().__init__()
        if training := [path or type(part).__name__ for path, part in module.named_modules() if part.training]:
            raise ValueError(f"the classifier is in training mode ({training[0]}); call eval() on it first")
        self.module, self.transform, self.size = module, transform, size
        self._apply_transform = transform if callable(transform) else preset(transform)
        self.channels = channels or (1 if transform == "authors" else 3)
        self.name = name or type(module).__name__
        self.eval()  # itself, since all parts of the module are so already

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """(B, K) logits, in float32 (float64 for a module in float64).

        Raises:
            ValueError: `pictures` is not (B, C, H, W), or what the module returned is not (B, K).
        """
        if pictures.ndim != 4:
            raise ValueError(f"a classifier reads pictures (B, C, H, W) in [-1, 1], got {tuple(pictures.shape)}")
        with torch.autocast(pictures.device.type, enabled=False):
            output = self.module(self.module_input(pictures))
        logits = getattr(output, "logits", output)
        if logits.ndim != 2 or len(logits) != len(pictures):
            raise ValueError(f"{self.name} returned {tuple(logits.shape)} for {len(pictures)} pictures, not (B, K)")
        return widened(logits)

    def module_input(self, pictures: torch.Tensor) -> torch.Tensor:
        """What the module gets for `pictures`, in the dtype of its parameters."""
        pictures = widened(pictures)
        if self.size is not None and pictures.shape[-2:] != (self.size, self.size):
            pictures = functional.interpolate(pictures, (self.size, self.size), mode="bicubic", antialias=True)
        if pictures.shape[1] == 1:
            pictures = pictures.expand(-1, self.channels, -1, -1)
        pictures = self._apply_transform(pictures)
        floating = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return pictures.to(next(floating, pictures.dtype))

    def identity(self) -> dict:
        """What tells this classifier from others, JSON-serialisable: name, input, SHA-256 of the weights."""
        return {
            "name": self.name,
            "transform": _described(self.transform),
            "size": self.size,
            "channels": self.channels,
            "weights_sha256": weights_sha256(self.module),
        }


def _described(transform: str | Callable) -> str | dict:
    if isinstance(transform, str):
        return transform
    if isinstance(transform, Normalise):
        return {
            name: [round(value, 6) for value in values.flatten().tolist()] for name, values in transform.named_buffers()
        }
    return getattr(transform, "__qualname__", type(transform).__qualname__)
