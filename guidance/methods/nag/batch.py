"""Arguments and results of a network with every sample twice."""

import torch


_NOT_OF_SAMPLES = ("img_ids", "txt_ids")  # a row for each token


def doubled(arguments: dict, count: int) -> dict:
    """`arguments` of a network for every one of `count` samples twice, the second time after all the first."""
    return {name: value if name in _NOT_OF_SAMPLES else _twice(value, count) for name, value in arguments.items()}


def first_half(output, count: int):
    """The first `count` samples of what the network returned."""
    if isinstance(output, torch.Tensor):
        return output[:count]
    if isinstance(output, dict):  # an output class of diffusers too
        return type(output)(**{name: first_half(value, count) for name, value in output.items()})
    return type(output)(first_half(value, count) for value in output)


def padded(value: torch.Tensor, tokens: int) -> torch.Tensor:
    """(B, tokens, ...): zeros after the tokens that there are."""
    missing = value.new_zeros((value.shape[0], tokens - value.shape[1], *value.shape[2:]))
    return torch.cat([value, missing], 1)


def _twice(value, count: int):
    if isinstance(value, torch.Tensor):
        return torch.cat([value, value]) if value.ndim and len(value) == count else value
    if isinstance(value, dict):
        return {name: _twice(each, count) for name, each in value.items()}
    if isinstance(value, list | tuple):
        if len(value) == count and not any(isinstance(each, torch.Tensor) for each in value):
            return value * 2
        return type(value)(_twice(each, count) for each in value)
    return value
