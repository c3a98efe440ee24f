"""Kinds of families that combine otherwise than `uncond + w * (cond - uncond)` of two predictions.

Each brings what its pipelines combine to that form, so that callbacks see two predictions whose plain combination, at
the pipeline's weight, is what the pipeline itself would step. The numbers are found in each step, on the device, from
what the pipeline combined: they change with the noise level, and no pipeline keeps them where they can be read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from .base import Family, Pair
from .observed import Call, Observed
from .solve import coefficients, multiple


@dataclass(frozen=True)
class Mixture(Family):
    """Three and more predictions: perturbed attention, InstructPix2Pix, skip layers, LTX2.

    The pipeline's sum of c_i p_i, with sum c_i = 1, is `uncond + w * (cond - uncond)` with w = c_k the largest
    coefficient, cond = p_k, and the *virtual unconditional* prediction uncond = (sum of all other c_i p_i) / (1 - w).

    Callbacks find all p_i in `step.predictions`, p_k as "cond", next to the virtual "uncond"; inference names the
    others by their position, `other_1`.

    Attributes:
        strongest: position of p_k among the predictions of a step.
    """

    strongest: int = 0

    def __post_init__(self) -> None:
        if self.names and (self.names[self.strongest] != "cond" or "uncond" in self.names):
            raise ValueError(f'names must have "cond" at position {self.strongest}, and no "uncond", got {self.names}')

    def cond_position(self, count: int) -> int:
        return self.strongest if count > 1 else 0

    def split(self, outputs: list, observed: Observed, sample: torch.Tensor) -> Pair:
        like = self.stepped(observed)[0]
        found = self.predictions(outputs, like)
        if len(found) == 1:
            return found[0], None
        shares = observed.once("shares", partial(self._shares, observed, like)).to(like.dtype)
        if len(shares) != len(found):
            raise ValueError(f"{len(found)} predictions, where the step has {len(shares)}")
        others = [index for index in range(len(found)) if index != self.strongest]
        rest = sum(shares[index] * found[index] for index in others) / (1 - shares[self.strongest])
        return found[self.strongest], rest

    def _shares(self, observed: Observed, like: torch.Tensor) -> torch.Tensor:
        found = self.predictions([call.output for call in observed.calls], like)
        base = found[self.strongest]
        others = [prediction - base for index, prediction in enumerate(found) if index != self.strongest]
        shares = coefficients(others, like - base)
        return torch.cat([shares[: self.strongest], 1 - shares.sum(0, keepdim=True), shares[self.strongest :]])


@dataclass(frozen=True)
class Sliced(Family):
    """A weight for each frame or channel: StableVideoDiffusion, Lumina.

    The pipeline's `uncond + W * (cond - uncond)`, with W a weight for each entry of `dim`, is `u + w * (cond - u)` with
    w the largest weight and u = cond - (W - 1) / (w - 1) * (cond - uncond): entries with weight 1 stay conditional at
    any w, and the others keep their proportions.

    Attributes:
        dim: the dimension along which weights differ, counted with the batch.
    """

    dim: int = 1

    def split(self, outputs: list, observed: Observed, sample: torch.Tensor) -> Pair:
        cond, uncond = super().split(outputs, observed, sample)
        if uncond is None:
            return cond, None
        share = observed.once("share", partial(self._share, observed)).to(cond.dtype)
        return cond, cond - share * (cond - uncond)

    def _share(self, observed: Observed) -> torch.Tensor:
        cond, uncond = super().split([call.output for call in observed.calls], observed, observed.sample)
        if uncond is None:
            raise ValueError("without an unconditional prediction the weights of the slices are not seen")
        others = [dim for dim in range(cond.ndim) if dim != self.dim]
        direction, moved = (cond - uncond).double(), (self.stepped(observed)[0] - uncond).double()
        square = direction.square().sum(others, keepdim=True)
        weights = torch.where(square > 0, (moved * direction).sum(others, keepdim=True) / square, 1.0)
        return (weights - 1) / (weights.max() - 1)


@dataclass(frozen=True)
class Preconditioned(Family):
    """What the scheduler steps is k * p + m * sample of the prediction p: Cosmos 2, LatentUpscale, networks of x0.

    The network may see a multiple of the sample that the scheduler does not know of.
    """

    def split(self, outputs: list, observed: Observed, sample: torch.Tensor) -> Pair:
        numbers = observed.once("numbers", partial(self._numbers, observed)).to(sample.dtype)
        cond, uncond = super().split(outputs, observed, sample)
        cond = numbers[0] * cond + numbers[1] * sample
        return cond, None if uncond is None else numbers[0] * uncond + numbers[1] * sample

    def inputs(
        self,
        call: Call,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        observed: Observed,
        scaled: Callable[[torch.Tensor], torch.Tensor],
    ) -> dict:
        given = self.inside.select(call.arguments[self.sample], sample)[: len(sample)]
        current = self.stepped(observed)[1]
        factor = multiple(current, given).to(sample.dtype)
        moved = torch.where(sample == current, given.to(sample.dtype), factor * sample)
        return super().inputs(call, moved, timestep, observed, lambda sample: sample)

    def _numbers(self, observed: Observed) -> torch.Tensor:
        output, sample = self.stepped(observed)
        cond, uncond = super().split([call.output for call in observed.calls], observed, sample)
        if uncond is None:
            return coefficients([cond, sample], output)
        return coefficients([uncond, sample, cond - uncond], output)[:2]
