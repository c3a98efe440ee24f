"""A guidance weight by the accumulated error alone: claim (b) of DiffIER (arXiv 2508.13628), to be tried on a model."""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ..core.plots import COLORS, canvas, write_plot
from ..core.protocols import Pipeline
from .cfg import CFG
from .trace import Trace


@dataclass(frozen=True, eq=False)
class WeightFit:
    """Accumulated errors of a pipeline at a few weights, on the same noise.

    Attributes:
        weights: those that were tried, rising.
        errors, cond_errors: (weights, samples) float32: `Trace.accumulated_error` of the guided prediction and of the
            conditional one.
    """

    weights: Sequence[float]
    errors: torch.Tensor
    cond_errors: torch.Tensor

    @property
    def weight(self) -> float:
        """The weight with the least mean error."""
        return self.weights[int(self.errors.mean(1).argmin())]

    @property
    def is_inside(self) -> bool:
        """Whether that is a minimum: smaller and larger weights were tried."""
        return self.weights[0] < self.weight < self.weights[-1]

    @property
    def callback(self) -> CFG:
        return CFG(self.weight)

    def __str__(self) -> str:
        lines = ["weight  error            error of the conditional prediction"]
        for weight, error, cond in zip(self.weights, self.errors, self.cond_errors, strict=True):
            lines.append(f"{weight:<6g}  {_text(error):<16} {_text(cond)}")
        if self.is_inside:
            lines.append(f"The accumulated error is least at weight {self.weight:g}.")
        else:
            end = "smallest" if self.weight == self.weights[0] else "largest"
            lines.append(
                f"The accumulated error is least at the {end} weight, {self.weight:g}: there is no minimum among "
                "these, so it does not choose one."
            )
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike) -> Path:
        """Draw both errors over the weight, with standard errors, to a PNG, PDF or SVG file."""
        figure = canvas(5, 3.6)
        axes = figure.subplots()
        for name, values, color in (("guided", self.errors, "cfg"), ("conditional", self.cond_errors, "raag")):
            spread = _standard_error(values)
            axes.errorbar(self.weights, values.mean(1), spread, label=name, color=COLORS[color], marker="o")
        axes.set(xlabel="guidance weight", ylabel="accumulated error", yscale="log")
        axes.grid(alpha=0.3)
        axes.legend(title="prediction")
        return write_plot(path, figure)


def fit_weight(
    pipe: Pipeline,
    call: Mapping | Callable[[int], object],
    weights: Sequence[float],
    runs: int = 3,
    progress: Callable[[], object] | None = None,
) -> WeightFit:
    """Sample with plain guidance of each weight, and add up the errors that DiffIER reduces.

    The error of a step is that of `Trace`: of its prediction to the one of the sample where the sampler went. What it
    says about images has to be tried on a model: on the small ones that ship it grows with the weight
    (docs/diffier.md).

    Args:
        pipe: a pipeline as for `attach`.
        call: its arguments, with guidance on, to which each run adds a generator of its own (unless one is given); or a
            function of the number of the run, from 0, that calls the pipeline.
        weights: two or more, in any order.
        runs: calls for each weight, with the same noise for all weights.
        progress: called after each call.

    Raises:
        ValueError: no run, fewer than two weights, a weight that is not finite, or runs of one step.
    """
    from ..attachment.attach import attach  # lazy: the attachment knows the methods' base, not the other way round

    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}")
    weights = sorted(set(map(float, weights)))
    if len(weights) < 2 or not all(map(math.isfinite, weights)):
        raise ValueError(f"two or more finite weights are needed, got {weights}")
    found: dict[str, list[torch.Tensor]] = {"error": [], "cond_error": []}
    for weight in weights:
        trace = Trace(levels=False, error=True)
        with attach(pipe, [CFG(weight), trace], skip=False):
            for number in range(runs):
                if callable(call):
                    call(number)
                else:
                    pipe(**{"generator": torch.Generator().manual_seed(number), **call})
                if progress is not None:
                    progress()
        for name, values in found.items():
            values.append(torch.cat([trace.accumulated_error(run, name) for run in range(len(trace.runs))]))
    return WeightFit(weights, *(torch.stack(values) for values in found.values()))


def _standard_error(values: torch.Tensor) -> torch.Tensor:
    """Of the mean over samples (weights, samples); 0 for a single one."""
    return values.std(1, correction=min(1, values.shape[1] - 1)) / values.shape[1] ** 0.5


def _text(values: torch.Tensor) -> str:
    return f"{values.mean():.4g} +- {_standard_error(values[None]).item():.2g}"
