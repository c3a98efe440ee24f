"""Which classes a classifier is asked for: class ids given once, one for each image, or by the pipeline's own call."""

from collections.abc import Sequence

import torch

from ...core.step import Step


Labels = int | Sequence[int] | None


def class_ids(labels: Labels, step: Step, count: int) -> torch.Tensor:
    """(count,) class ids on the device of the sample.

    Args:
        labels: one for all, one for each image, or None for the `class_labels` of the pipeline's own call.

    Raises:
        ValueError: another number of them than one or `count`, or None where the call gives none.
    """
    device = step.sample.device
    if isinstance(labels, int):
        return torch.full((count,), labels, device=device)
    ids = step.conditioning("class_labels") if labels is None else torch.as_tensor(labels)
    if ids.numel() not in (1, count):
        raise ValueError(f"labels has {ids.numel()} class ids for {count} images; give one for each, or one")
    return ids.flatten().to(device, torch.int64, non_blocking=True).expand(count)


def highest(labels: Labels) -> int:
    """The largest of the class ids, 0 without any. Raises ValueError for one below 0."""
    ids = [] if labels is None else [labels] if isinstance(labels, int) else list(labels)
    if any(each < 0 for each in ids):
        raise ValueError(f"labels are class ids from 0, got {labels}")
    return max(ids, default=0)
