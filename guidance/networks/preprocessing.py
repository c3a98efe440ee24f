"""What is done to images before a network sees them: resize, then mean and standard deviation; differentiable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


def resized(images: torch.Tensor, size: int | None, mode: str = "bicubic") -> torch.Tensor:
    """`images` (B, C, H, W) with both sides brought to `size` pixels, antialiased, not cropped and not clipped.

    With None, or the size that they have, they are unchanged.
    """
    if size is None or images.shape[-2:] == (size, size):
        return images
    return functional.interpolate(images, (size, size), mode=mode, antialias=True)


@dataclass(frozen=True)
class Transform:
    """What is done to images (B, 3, H, W) in [0, 1]: resize both sides, then normalise.

    Args:
        size: pixels per side; None keeps the size.
        mean, std: per channel.
        mode: "bicubic" or "bilinear", with antialiasing.
    """

    size: int | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    mode: str = "bicubic"

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        inside = resized(images, self.size, self.mode)
        inside = images if inside is images else inside.clamp(0, 1)  # bicubic weights overshoot
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (inside - mean) / std


AS_IS = Transform()


class Normalise(nn.Module):
    """Images in [-1, 1] as a network trained on `((x + 1) / 2 - mean) / std` wants them; one number per channel."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        # On the device of the classifier: numbers made into a tensor in each call would make the host wait.
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return ((images + 1) / 2 - self.mean) / self.std


def unchanged(images: torch.Tensor) -> torch.Tensor:
    return images


def preset(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The transform of images in [-1, 1] called `name`: "authors" (none), "imagenet" or "clip".

    Raises:
        ValueError: another name.
    """
    presets: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "authors": unchanged,
        "imagenet": Normalise(*IMAGENET),
        "clip": Normalise(*CLIP),
    }
    if name not in presets:
        raise ValueError(f"transform must be {', '.join(presets)} or a callable, got {name!r}")
    return presets[name]


def described(transform: str | Callable) -> str | dict:
    """`transform` as JSON: its name, or its numbers."""
    if isinstance(transform, str):
        return transform
    if isinstance(transform, Normalise):
        return {
            name: [round(value, 6) for value in values.flatten().tolist()] for name, values in transform.named_buffers()
        }
    return getattr(transform, "__qualname__", type(transform).__qualname__)
