"""Gaussian noise seeded by an image: the same alone, in any batch, in any order, and on any device.

The seed of an image is a hash of its pixels, and the noise is a counter hashed with that seed (SplitMix64, Steele et
al. 2014), turned Gaussian by Box and Muller. All of it is whole-number arithmetic on the device that holds the image,
up to the last logarithm and cosine; nothing waits for the device.
"""

import math

import torch


_GAMMA = 0x9E3779B97F4A7C15 - 2**64  # 64-bit constants as the signed numbers that torch has
_FIRST = 0xBF58476D1CE4E5B9 - 2**64
_SECOND = 0x94D049BB133111EB - 2**64
_PART = 1 << 18  # values of an image that are hashed at once: few enough to stay in a cache


def content_seeds(images: torch.Tensor) -> torch.Tensor:
    """(B,) int64 seeds from pixels and size.

    Args:
        images: (B, C, H, W) in [0, 1]; rounded to 8 bits first, so an image has the seed of the file it is written to.
    """
    # A wrapping integer sum does not depend on the order; the odd weights distinguish positions.
    # It is taken in parts, since the integers of a photograph would take a gigabyte.
    total = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    for start, part in zip(range(0, images[0].numel(), _PART), images.flatten(1).split(_PART, 1), strict=True):
        pixels = (part.float() * 255).round().clamp(0, 255).to(torch.int64)
        positions = _mix(torch.arange(start, start + pixels.shape[1], device=images.device) * _GAMMA)
        total += ((pixels + 1) * (positions | 1)).sum(1)
    size = torch.full((1,), images.shape[-1] << 16 | images.shape[-2], device=images.device)
    return _mix(_mix(total) + size * _GAMMA)


def content_noise(seeds: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """(B, *shape) float32 unit Gaussian noise on the device of `seeds`, one independent stream per seed.

    Args:
        seeds: (B,) int64.
        shape: of one stream; streams of different lengths begin with different numbers.
    """
    count = math.prod(shape)
    pairs = (count + 1) // 2
    counter = torch.arange(1, pairs + 1, device=seeds.device) * _GAMMA
    bits = _mix(seeds[:, None] + counter)
    radius = (bits >> 40 & 0xFFFFFF).to(torch.float32).add_(1).mul_(2**-24).log_().mul_(-2).sqrt_()
    angle = (bits >> 8 & 0xFFFFFF).to(torch.float32).mul_(2 * math.pi * 2**-24)
    noise = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
    return noise[:, :count].reshape(len(seeds), *shape)


def _mix(values: torch.Tensor) -> torch.Tensor:
    """SplitMix64's finaliser. torch shifts with sign, so the sign's copies are masked away."""
    values = values ^ (values >> 30 & (1 << 34) - 1)
    values.mul_(_FIRST)
    values ^= values >> 27 & (1 << 37) - 1
    values.mul_(_SECOND)
    return values.bitwise_xor_(values >> 31 & (1 << 33) - 1)
