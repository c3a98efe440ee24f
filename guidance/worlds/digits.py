"""The digits world: the 1797 real handwritten digits that scikit-learn installs with itself (8 x 8, ten classes)."""

import torch


DIGITS = tuple(range(10))


def load_digits(split: str = "all", seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (N, 1, 8, 8) float32 in [0, 1] and labels (N,) int64.

    Args:
        split: "all" (1797 images), "train" (80 %) or "test" (20 %), the classes in equal shares.
        seed: of the split.

    Raises:
        ValueError: an unknown split.
    """
    from sklearn.datasets import load_digits as load  # lazy: scikit-learn is slow to import
    from sklearn.model_selection import train_test_split

    if split not in ("all", "train", "test"):
        raise ValueError(f"split must be 'all', 'train' or 'test', not {split!r}")
    data = load()
    index = torch.arange(len(data.target))
    if split != "all":
        train, test = train_test_split(index.numpy(), test_size=0.2, random_state=seed, stratify=data.target)
        index = torch.from_numpy(train if split == "train" else test).sort().values
    images = torch.from_numpy(data.images).float().unsqueeze(1) / 16
    return images[index], torch.from_numpy(data.target).long()[index]
