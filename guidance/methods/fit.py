"""Settings of RAAG for a model, in closed form from a few runs of its own pipeline.

RAAG's published constants fit the authors' model: where the ratio is high, they hardly guide. The ratios of a pipeline
at its first and at its late steps, and the weights wanted there, determine the two constants.
"""

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..core.callback import Callback
from ..core.plots import COLORS, panels, write_plot
from ..core.protocols import Pipeline
from .cfg import CFG
from .raag import RAAG, raag_weight
from .trace import Trace


FALL = 1.5  # times the late ratio: with a smaller first one the constants are extreme, and there is no spike to damp

SEEN = 1e-4  # ratios below it are rounding


@dataclass(frozen=True, eq=False)
class RAAGFit:
    """Constants of RAAG for a pipeline, and the measurements behind them.

    Attributes:
        needed: whether the ratio falls enough; if not, w_max is the late weight and alpha 0, plain guidance.
        w_max, alpha: see `raag_weight`.
        first_ratio, late_ratio: medians over samples and runs, at the first step and over the second half of the steps.
        first_weight, last_weight: asked for there.
        ratios, weights: (steps,) float32, the median ratio at each step and the weight that RAAG gives for it.
    """

    needed: bool
    w_max: float
    alpha: float
    first_ratio: float
    late_ratio: float
    first_weight: float
    last_weight: float
    ratios: torch.Tensor
    weights: torch.Tensor

    @property
    def callback(self) -> Callback:
        """What to attach: RAAG, or classifier-free guidance where RAAG is not needed."""
        return RAAG(round(self.w_max, 4), round(self.alpha, 4)) if self.needed else CFG(self.last_weight)

    def __str__(self) -> str:
        seen = f"The ratio is {self.first_ratio:.3g} at the first step and {self.late_ratio:.3g} at the late ones"
        if not self.needed:
            return f"{seen}: it does not fall to 1 / {FALL} of the first one, so RAAG is not needed. {self.callback!r}"
        steps = ", ".join(f"{weight:.2f}" for weight in self.weights.tolist())
        return f"{seen}. {self.callback!r} gives the weights {steps}"

    def plot(self, path: str | os.PathLike) -> Path:
        """Draw ratio and weight over the steps to a PNG, PDF or SVG file."""
        figure, places = panels(2, 5, 3.6)
        shown = (("ratio ||cond - uncond|| / ||uncond||", self.ratios), ("guidance weight", self.weights))
        for axes, (label, values) in zip(places, shown, strict=True):
            axes.plot(values.numpy(), color=COLORS["raag"], linewidth=2, marker="o", markersize=3)
            axes.set(xlabel="step", ylabel=label)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
        return write_plot(path, figure)


def raag_constants(
    first_ratio: float, late_ratio: float, first_weight: float, last_weight: float
) -> tuple[float, float]:
    """(w_max, alpha) with which `raag_weight` is `first_weight` at `first_ratio` and `last_weight` at `late_ratio`.

    `alpha = ln((last_weight - 1) / (first_weight - 1)) / (first_ratio - late_ratio)`,
    `w_max = 1 + (last_weight - 1) * exp(alpha * late_ratio)`.

    Raises:
        ValueError: unless `first_ratio > late_ratio >= 0` and `1 < first_weight < last_weight`.
    """
    if not first_ratio > late_ratio >= 0:
        raise ValueError(f"the first ratio must be above the late one, got {first_ratio} and {late_ratio}")
    _check_weights(first_weight, last_weight)
    alpha = math.log((last_weight - 1) / (first_weight - 1)) / (first_ratio - late_ratio)
    return 1 + (last_weight - 1) * math.exp(alpha * late_ratio), alpha


def fit_raag(
    pipe: Pipeline,
    call: Mapping | Callable[[int], object],
    first_weight: float = 1.5,
    last_weight: float | None = None,
    runs: int = 3,
) -> RAAGFit:
    """Trace a few runs of `pipe` at its own weight, and solve for RAAG's constants (`raag_constants`).

    Medians over samples are mapped exactly, since the weight falls with the ratio. Later runs with RAAG follow other
    trajectories, so they meet the late weight approximately.

    Args:
        pipe: a pipeline as for `attach`.
        call: its arguments, with guidance on, to which each run adds a generator of its own (unless one is given); or a
            function of the number of the run, from 0, that calls the pipeline.
        first_weight: wanted at the first step, above 1.
        last_weight: wanted at the late steps; None for the weight that the pipeline guides with.
        runs: how many calls.

    Raises:
        ValueError: no run, a run of one step or without the unconditional pass, or weights that do not rise above 1.
    """
    from ..attachment.attach import attach  # lazy: the attachment knows the methods' base, not the other way round

    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}")
    _check_weights(first_weight, last_weight)
    trace = Trace(levels=False)
    with attach(pipe, trace):
        for number in range(runs):
            if callable(call):
                call(number)
            else:
                pipe(**{"generator": torch.Generator().manual_seed(number), **call})
    found = [trace.to_dict(run) for run in range(len(trace.runs))]
    if not found or any("ratio" not in data for data in found):
        raise ValueError(
            f"{type(pipe).__name__} ran without the unconditional pass, so it has no ratio; call it with guidance on"
        )
    ratios = torch.cat([data["ratio"] for data in found], dim=1)
    if len(ratios) < 2:
        raise ValueError("one step does not show whether the ratio falls; run two or more")
    if last_weight is None:
        weights = torch.cat([data["weight"] for data in found], dim=1)
        # Where the two predictions are equal, as they may be late, no weight can be seen.
        last_weight = weights[ratios > SEEN].median().item()
    return _fitted(ratios, first_weight, last_weight)


def _check_weights(first_weight: float, last_weight: float | None) -> None:
    if not 1 < first_weight < (math.inf if last_weight is None else last_weight):
        raise ValueError(
            f"RAAG raises the weight from the first step on: 1 < first_weight < last_weight is needed, got "
            f"{first_weight} and {last_weight}"
        )


def _fitted(ratios: torch.Tensor, first_weight: float, last_weight: float) -> RAAGFit:
    """Of the ratios (steps, samples)."""
    first, late = ratios[0].median().item(), ratios[len(ratios) // 2 :].median().item()
    needed = first > FALL * late
    w_max, alpha = last_weight, 0.0
    if needed:
        w_max, alpha = raag_constants(first, late, first_weight, last_weight)
    medians = ratios.median(dim=1).values
    weights = raag_weight(medians, w_max, alpha)
    return RAAGFit(needed, w_max, alpha, first, late, first_weight, last_weight, medians, weights)
