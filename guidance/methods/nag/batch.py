"""Arguments of a network with every sample twice."""

import torch

from ...attachment.halves import twice


_NOT_OF_SAMPLES = ("img_ids", "txt_ids")  # a row for each token


def doubled(arguments: dict, count: int) -> dict:
    """`arguments` of a network for every one of `count` samples twice, the second time after all the first."""
    return {name: value if name in _NOT_OF_SAMPLES else twice(value, 2 * count) for name, value in arguments.items()}


def padded(value: torch.Tensor, tokens: int) -> torch.Tensor:
    """(B, tokens, ...): zeros after the tokens that there are."""
    missing = value.new_zeros((value.shape[0], tokens - value.shape[1], *value.shape[2:]))
    return torch.cat([value, missing], 1)
