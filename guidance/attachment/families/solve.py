"""Least squares on the device, without waiting for it."""

import torch


def coefficients(columns: list[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
    """(n,) float64 numbers with which the sum of `columns`, n tensors, is nearest to `target`.

    By the normal equations of unit columns: columns that are equal share their coefficient.
    """
    basis = torch.stack([column.flatten() for column in columns]).to(wide(target))
    norms = basis.norm(dim=1).clamp_min(1e-30)
    basis = basis / norms[:, None]
    gram = basis @ basis.T
    gram = gram + 1e-13 * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve_ex(gram, basis @ target.flatten().to(basis.dtype))[0] / norms


def multiple(of: torch.Tensor, is_: torch.Tensor) -> torch.Tensor:
    """0-d: the number with which `of` is nearest to `is_`."""
    return coefficients([of], is_)[0]


def wide(tensor: torch.Tensor) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64
