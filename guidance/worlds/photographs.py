"""The photographs world: patches of real photographs that scikit-learn and scikit-image install with themselves.

Every split has photographs of its own, so nothing that is measured on "test" was seen in training.
"""

from pathlib import Path

import torch


#: split -> package and file name. Only files inside the packages; nothing is downloaded.
SPLITS = {
    "train": (
        *("sklearn/china.jpg", "skimage/astronaut.png", "skimage/chelsea.png", "skimage/motorcycle_left.png"),
        *("skimage/grass.png", "skimage/gravel.png", "skimage/brick.png"),
    ),
    "validation": ("skimage/coffee.png", "skimage/coins.png"),
    "test": ("sklearn/flower.jpg", "skimage/rocket.jpg", "skimage/camera.png"),
}
PATCH = 32


def load_photographs(split: str) -> list[torch.Tensor]:
    """Each photograph of a split: (3, H, W) float32 in [0, 1], halved in size, which takes away the traces of JPEG.

    Raises:
        ValueError: an unknown split, or scikit-image is missing.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, not {split!r}")
    return [_read(name) for name in SPLITS[split]]


def load_patches(split: str, size: int = PATCH, contrast: float = 0.04) -> tuple[torch.Tensor, torch.Tensor]:
    """Patches (N, 3, size, size) in [0, 1] of 8-bit values, side by side; and the photograph (N,) of each.

    Args:
        contrast: patches with a smaller standard deviation (plain sky, blurred background) are left out.
    """
    patches, numbers = [], []
    for number, photograph in enumerate(load_photographs(split)):
        cut = photograph.unfold(1, size, size).unfold(2, size, size).permute(1, 2, 0, 3, 4).reshape(-1, 3, size, size)
        cut = cut[cut.std((1, 2, 3)) >= contrast]
        patches.append(cut)
        numbers.append(torch.full((len(cut),), number))
    return (torch.cat(patches) * 255).round() / 255, torch.cat(numbers)


def _read(name: str) -> torch.Tensor:
    import importlib.util

    import numpy as np
    from PIL import Image

    package, file = name.split("/")
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ValueError("the photographs come with scikit-image (pip install scikit-image)")
    folder = {"sklearn": "datasets/images", "skimage": "data"}[package]
    with Image.open(Path(found.origin).parent / folder / file) as image:
        half = image.convert("RGB").resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        return torch.from_numpy(np.array(half)).permute(2, 0, 1).float() / 255
