"""The convolutional trunk of the worlds' classifiers."""

from torch import nn


def convolutions(channels: int, *stages: tuple[int, int]) -> nn.Sequential:
    """Convolutions of 3 x 3 pixels, each with group normalisation and ReLU, for images (B, channels, H, W).

    Args:
        channels: of the image.
        stages: (channels, a multiple of 8; stride) of each.
    """
    layers: list[nn.Module] = []
    for width, stride in stages:
        layers += [nn.Conv2d(channels, width, 3, stride, 1), nn.GroupNorm(8, width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers)
