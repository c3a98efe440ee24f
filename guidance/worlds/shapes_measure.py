"""Measuring a text-to-image model in the shapes world: a caption for each seed, features and alignment, real scenes."""

from collections.abc import Sequence
from functools import cache

import torch

from .shapes import Scenes
from .shapes_classifier import ShapesClassifier, aligned


REFERENCE = "reference.safetensors"  # moments of real scenes, next to the classifier, whose features they are


@cache
def caption(seed: int) -> str:
    """The caption of a scene that belongs to `seed`; the same for every model, so that models can be compared."""
    # Another generator than that of the image's noise, which starts from the seed itself.
    return Scenes.sample(1, torch.Generator().manual_seed(2**40 + seed)).captions()[0]


@torch.inference_mode()
def measure(classifier: ShapesClassifier, images: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
    """What the classifier measures in images (B, 3, 32, 32) in [0, 1], drawn for the captions of B seeds.

    Returns:
        `features` (B, width) float32, and `alignment` (B,) bool, whether every attribute is as the caption asks.
    """
    images = images.to(classifier.device)
    right = aligned(classifier, images, [caption(seed) for seed in seeds])
    return {"features": classifier.features(images).float(), "alignment": right}


@torch.inference_mode()
def real_features(classifier: ShapesClassifier, count: int, seed: int = 2**41) -> torch.Tensor:
    """Features (count, width) float32 on the CPU of true scenes, which no seed's caption shares."""
    scenes = Scenes.sample(count, torch.Generator().manual_seed(seed))
    parts = (scenes[i : i + 500] for i in range(0, count, 500))
    return torch.cat([classifier.features(part.render().to(classifier.device)).float().cpu() for part in parts])
