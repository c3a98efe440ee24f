"""Saturation and contrast of single images: what strong guidance raises (measured so in arXiv 2410.02416)."""

import torch


LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"


def saturation(images: torch.Tensor) -> torch.Tensor:
    """(B,) float32 in [0, 1]: the mean over the pixels of S in HSV, `(max - min) / max` of the channels, 0 for black.

    Args:
        images: (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: images of another shape.
    """
    images = _checked(images)
    high, low = images.amax(1), images.amin(1)
    share = (high - low) / high.clamp_min(torch.finfo(torch.float32).tiny)
    return share.flatten(1).mean(1)


def contrast(images: torch.Tensor) -> torch.Tensor:
    """(B,) float32 in [0, 0.5]: the standard deviation over the pixels of the luma (ITU-R BT.601), the RMS contrast.

    Args:
        images: (B, 3, H, W) in [0, 1].

    Raises:
        ValueError: images of another shape.
    """
    images = _checked(images)
    luma = (images * images.new_tensor(LUMA)[:, None, None]).sum(1)
    return luma.flatten(1).std(1, correction=0)


def _checked(images: torch.Tensor) -> torch.Tensor:
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"expected images (B, 3, H, W) in [0, 1], got {tuple(images.shape)}")
    return images.float()
