"""The class ids that a classifier guides towards: one for all, one for each image, or from the pipeline's own call."""

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


def plain_labels(labels: Labels) -> int | list[int] | None:
    """Class ids, of numpy and torch too, as plain numbers.

    Raises:
        ValueError: not whole numbers from 0.
    """
    if labels is None:
        return None
    try:
        ids = torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError):
        ids = torch.tensor(-1)
    if ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool or (ids < 0).any():
        raise ValueError(f"labels are class ids from 0, got {labels!r}")
    return ids.flatten().tolist() if ids.ndim else int(ids)


def highest(labels: int | list[int] | None) -> int:
    """The largest of the class ids, 0 without any."""
    return labels if isinstance(labels, int) else max(labels or [0])
