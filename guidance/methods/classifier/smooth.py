"""Copies of a network that share its weights, with activations that have a smooth gradient.

Source: EluCD (arXiv 2310.11311), section 4.2: the gradient of a ReLU network jumps, so a classifier that guides has
its ReLU replaced by Softplus.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional


class Softplus(nn.Module):
    """`slope * x + (1 - slope) * (softplus(x) - softplus(x - top))`: a smooth leaky ReLU, or ReLU6 where `top` is 6.

    Args:
        beta: sharpness of `softplus(x) = log(1 + exp(beta x)) / beta`; the original activation in the limit.
        slope: of the negative side.
        top: where the positive side ends, or None.
    """

    def __init__(self, beta: float, slope: float = 0.0, top: float | None = None):
        super().__init__()
        self.beta, self.slope, self.top = beta, slope, top

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.softplus(x, self.beta)
        if self.top is not None:
            out = out - functional.softplus(x - self.top, self.beta)
        return torch.lerp(out, x, self.slope) if self.slope else out

    def extra_repr(self) -> str:
        return f"beta={self.beta}, slope={self.slope}, top={self.top}"


#: What can be replaced, and by what.
_SMOOTH = {
    nn.ReLU: lambda module, beta: Softplus(beta),
    nn.ReLU6: lambda module, beta: Softplus(beta, top=6.0),
    nn.LeakyReLU: lambda module, beta: Softplus(beta, slope=module.negative_slope),
}


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy of `module` that shares the memory of its weights, without gradients for them.

    Moving or casting the copy does not change the original, nor the other way round.
    """
    memo: dict[int, torch.Tensor] = {
        id(each): nn.Parameter(each.detach(), requires_grad=False) for each in module.parameters()
    }
    memo |= {id(each): each.detach() for each in module.buffers()}
    return copy.deepcopy(module, memo)


def smoothed(module: nn.Module, beta: float) -> tuple[nn.Module, tuple[str, ...]]:
    """A copy of any torch module with Softplus for its ReLU, ReLU6 and LeakyReLU; the module itself is not changed.

    Args:
        module: torchvision, timm, open_clip, your own; the copy shares its weights (see `frozen_copy`).
        beta: of the Softplus, above 0; the authors use 3 (DDPM) and 5 (EDM).

    Returns:
        The copy, and the names of the modules that were replaced, as in `named_modules`.

    Raises:
        ValueError: `beta` not above 0, or nothing to replace.
    """
    if not beta > 0:
        raise ValueError(f"beta must be above 0, got {beta}")
    result = frozen_copy(module)
    replaced = []
    for name, part in list(result.named_modules(remove_duplicate=False)):
        if (smooth := _SMOOTH.get(type(part))) is not None:
            new = smooth(part, beta).train(part.training)
            if not name:
                return new, ("",)
            parent, _, child = name.rpartition(".")
            setattr(result.get_submodule(parent), child, new)
            replaced.append(name)
    if not replaced:
        raise ValueError(
            f"{type(module).__name__} has no module of type {', '.join(kind.__name__ for kind in _SMOOTH)}: a network "
            "whose activations are smooth already (GELU, SiLU) needs no smoothing; calls of torch.nn.functional.relu "
            "in its code cannot be replaced: make them modules"
        )
    return result, tuple(replaced)


def guiding(
    classifier: Callable[[torch.Tensor], torch.Tensor], beta: float, strict: bool
) -> tuple[Callable[[torch.Tensor], torch.Tensor], tuple[str, ...]]:
    """The classifier that guides in place of `classifier`, and the names of the activations that were smoothed.

    Args:
        classifier: a module in eval mode, of which a copy is made, or a function, which is not changed.
        beta: of `smoothed`; 0 keeps the activations.
        strict: whether it is an error that nothing can be smoothed.

    Raises:
        ValueError: a module in training mode, or, where `strict` and beta is above 0, nothing to smooth.
    """
    if not isinstance(classifier, nn.Module):
        if strict and beta:
            raise ValueError("softplus replaces modules, and this classifier is a plain function; pass softplus=0")
        return classifier, ()
    if classifier.training:
        raise ValueError(f"{type(classifier).__name__} is in training mode; call eval() first")
    if beta and (strict or any(type(part) in _SMOOTH for part in classifier.modules())):
        return smoothed(classifier, beta)
    return frozen_copy(classifier), ()
