"""Where samples lie in a larger value: in what a network is given, or in what it returns."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations, product

import torch


@dataclass(frozen=True)
class Layout:
    """How samples (B, ...) lie in a value that holds them n times, with further channels or tokens.

    Attributes:
        squeeze: a dimension of size 1 that samples do not have, or None.
        order: the value's dimensions, the batch first, in the order that samples have; None for the same order.
        packed: the value holds tokens (n * B, tokens, channels) of samples (B, channels, ...).
        last: dimensions of the samples in which they are the end of the value; in the others they are its beginning.
    """

    squeeze: int | None = None
    order: tuple[int, ...] | None = None
    packed: bool = False
    last: tuple[int, ...] = ()

    def select(self, value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """The view (n * B, ...) of `value` that holds the samples, each of the shape of one of `like` (B, ...).

        Raises:
            ValueError: `value` is not a tensor, too small for them, or of another rank.
        """
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"a network gave a {type(value).__name__} where a prediction of samples of {tuple(like.shape[1:])} was "
                "expected; name the denoiser: attach(..., family=Family(...)), see docs/families.md"
            )
        view = value if self.squeeze is None else value.squeeze(self.squeeze)
        view = view if self.order is None else view.permute(self.order)
        view = view.transpose(1, 2) if self.packed else view
        shape = like.flatten(2).shape if self.packed else like.shape
        if view.ndim != len(shape) or any(has < wanted for has, wanted in zip(view.shape[1:], shape[1:], strict=True)):
            raise ValueError(f"a value of shape {tuple(value.shape)} does not hold samples of {tuple(like.shape[1:])}")
        for dim in range(1, len(shape)):
            if view.shape[dim] > shape[dim]:
                view = view.narrow(dim, view.shape[dim] - shape[dim] if dim in self.last else 0, shape[dim])
        return view.unflatten(2, like.shape[2:]) if self.packed else view

    def place(self, value: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """A copy of `value` with `sample` (B, ...) in the place of each that it holds."""
        value = value.clone()  # strides too: networks round otherwise in another memory format
        self.select(value, sample).unflatten(0, (-1, len(sample))).copy_(sample)
        return value


PLAIN = Layout()


def layouts(value: torch.Tensor, like: torch.Tensor) -> Iterator[Layout]:
    """All layouts in which `value` can hold samples of the shape of `like`, the plainest first."""
    if value.ndim == like.ndim:
        same = list(_ends(value, like))
        yield from (Layout(last=last) for last in same)
        if not same:
            for order in permutations(range(1, value.ndim)):
                if value.permute(0, *order).shape[1:] == like.shape[1:]:
                    yield Layout(order=(0, *order))
    elif value.ndim == like.ndim + 1:
        for dim in range(1, value.ndim):
            if value.shape[dim] == 1:
                yield from (Layout(squeeze=dim, last=last) for last in _ends(value.squeeze(dim), like))
    elif value.ndim == 3 and like.ndim > 3:
        yield from (Layout(packed=True, last=last) for last in _ends(value.transpose(1, 2), like.flatten(2)))


def _ends(value: torch.Tensor, like: torch.Tensor) -> Iterator[tuple[int, ...]]:
    """The choices of the dimensions in which samples may be the end of `value`."""
    dims = range(1, like.ndim)
    if all(value.shape[dim] >= like.shape[dim] for dim in dims):
        larger = [dim for dim in dims if value.shape[dim] > like.shape[dim]]
        for ends in product((False, True), repeat=len(larger)):
            yield tuple(dim for dim, end in zip(larger, ends, strict=True) if end)
