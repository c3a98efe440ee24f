"""Measuring a class-conditional model in the digits world: a class for each seed, features, accuracy, real digits."""

from collections.abc import Sequence

import torch

from .digits import DIGITS, load_digits
from .digits_classifier import DigitsClassifier


def label(seed: int) -> int:
    """The class of `seed`: classes in rotation, so consecutive seeds have them in equal shares."""
    return seed % len(DIGITS)


@torch.inference_mode()
def measure(judge: DigitsClassifier, images: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
    """What the judge measures in images (B, 1, 8, 8) in [0, 1], drawn for the classes of B seeds.

    Returns:
        `features` (B, width) float32, and `accuracy` (B,) bool, whether the digit is the one that was asked for.
    """
    features = judge.features(images.to(judge.device) * 2 - 1)
    asked = torch.tensor([label(seed) for seed in seeds], device=judge.device)
    return {"features": features.float(), "accuracy": judge.head(features).argmax(-1) == asked}


@torch.inference_mode()
def real_features(judge: DigitsClassifier) -> torch.Tensor:
    """Features (1797, width) float32 on the CPU of all real digits."""
    images, _ = load_digits()
    return judge.features(images.to(judge.device) * 2 - 1).float().cpu()
