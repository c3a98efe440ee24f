"""A check of what the score measures: what a threshold says about images that were not generated.

With some encoders RIGID's score measures sharpness, or takes noise for a photograph. The scores of real images show
neither, so a calibration holds this check.
"""

from collections.abc import Iterable

import torch

from .cautions import BICUBIC, BLUR, NOISE, Check
from .corruptions import corrupt
from .rigid import Detector


SAMPLES = 50  # enough to distinguish a rate of 0.2 from 0.05


def sanity_check(detector: Detector, images: Iterable[torch.Tensor], threshold: float) -> tuple[Check, ...]:
    """Score uniform noise, and real images blurred, and resized to half the size and back.

    Args:
        detector: the one that the threshold belongs to.
        images: real ones, (1, 3, H, W) in [0, 1] of any sizes; one is in memory at a time. The noise has their sizes.
        threshold: lower scores mean generated.

    Raises:
        ValueError: there are no images.
    """
    scores = []
    for number, image in enumerate(images):
        noise = torch.rand(image.shape, generator=torch.Generator().manual_seed(number))
        changed = (corrupt(noise, "none"), corrupt(image, "blur 1.0"), corrupt(image, "resize 0.5"))
        inputs, seeds = (torch.cat(parts) for parts in zip(*map(detector.prepare, changed), strict=True))
        scores.append(detector.score_prepared(inputs, seeds).cpu())
    if not scores:
        raise ValueError("a sanity check needs at least one image")
    below = (torch.stack(scores).double() < threshold).sum(0).tolist()
    return tuple(Check(name, len(scores), count) for name, count in zip((NOISE, BLUR, BICUBIC), below, strict=True))
