"""What happened at each step, per sample, as data and as a plot."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import effective_weight, sample_norm
from ..core.files import write_json
from ..core.levels import is_understood
from ..core.next_sample import has_next, next_target, step_error
from ..core.plots import panels, write_plot
from ..core.step import UNCORRECTED, Pass, Step


if TYPE_CHECKING:
    from matplotlib.figure import Figure


#: What `Trace` measures: name -> (axis label, function of (step, prediction) to a (B,) or 0-d tensor).
_MEASURES: dict[str, tuple[str, Callable[[Step, torch.Tensor], torch.Tensor]]] = {
    "timestep": ("timestep", lambda step, _: torch.as_tensor(step.timestep)),
    "cond_norm": ("norm of the conditional prediction", lambda step, _: sample_norm(step.cond)),
    "prediction_norm": ("norm of the guided prediction", lambda step, prediction: sample_norm(prediction)),
    "sample_norm": ("norm of the sample", lambda step, _: sample_norm(step.sample)),
}
_GUIDED_MEASURES = {
    "uncond_norm": ("norm of the unconditional prediction", lambda step, _: sample_norm(step.uncond)),
    "ratio": (
        "ratio ||cond - uncond|| / ||uncond||",
        lambda step, _: (
            sample_norm(step.cond.float() - step.uncond.float()) / sample_norm(step.uncond).clamp_min(1e-12)
        ),
    ),
    "weight": ("guidance weight", lambda step, prediction: effective_weight(prediction, step.cond, step.uncond)),
}
_LEVEL_MEASURES = {"alpha": ("alpha", lambda step, _: step.alpha), "sigma": ("sigma", lambda step, _: step.sigma)}
_LABELS = {name: label for name, (label, _) in (_MEASURES | _GUIDED_MEASURES | _LEVEL_MEASURES).items()}
_LABELS |= {
    "error": "error of the step before",
    "cond_error": "the same, of the conditional prediction",
    "trial_error": "error before the first iteration",
}


class Trace(Callback):
    """Observes: records ratio, effective weight, norms and noise level of every step, and changes nothing.

    `weight` is the effective one, `<prediction - uncond, cond - uncond> / ||cond - uncond||^2`, so it is comparable
    between methods, whatever they do. `ratio` is RAAG's. Values stay on the device until they are asked for. Placed
    last in a list it sees what the pipeline gets; placed between two callbacks, what the first gave the second.

    With `error` it records the error of the trajectory (arXiv 2508.13628; see `diffier`): at each step, the mean
    squared difference between what the network says and the target of the pair that the sampler made this sample of in
    the step before; 0 where there is none, as at the first step. The network's own prediction serves, so it costs no
    evaluation. It is the error at the sample where the sampler went: where that is not the one of `trial.next_step`
    (samplers of higher order, or with fresh noise), their difference is in it, and `trial_error` of
    `DiffIER(step_size=0)` has the error alone, for one evaluation per step. Put it last in a list, after `DiffIER`;
    with `DiffIER(reuse=True)` it is the error of the reused prediction. `cond_error` is the same for the conditional
    prediction, which is what training compares with the target.

    Attributes:
        runs: one dict for each call of the pipeline, name -> list of tensors, one an evaluation of the network. "step"
            is the number of the step, from 0. Where a value is missing (the ratio without an unconditional pass, the
            level of a scheduler that is not understood) it is None.

    Args:
        levels: also record alpha and sigma, where the scheduler is understood.
        error: also record `error` and `cond_error`, of the step before.
        start, stop: see `Callback`.
    """

    passes_on = True

    @register_to_config
    def __init__(self, levels: bool = True, error: bool = False, start: float = 0.0, stop: float = 1.0):
        super().__init__(start, stop)
        self.levels, self.error = levels, error
        self.runs: list[dict[str, list[torch.Tensor | None]]] = []
        self._run: Pass | None = None  # of the last row
        self._target: torch.Tensor | None = None  # of the next step

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        prediction = proceed(step)
        if step.elsewhere:  # a callback further out evaluates the network again
            return prediction
        if not self.runs or step.run is not self._run:
            self.runs.append({})
            self._target = None
        self._run = step.run
        measures = _MEASURES | (_GUIDED_MEASURES if step.has_unconditional else {})
        if self.levels and is_understood(step.denoiser.scheduler):
            measures = measures | _LEVEL_MEASURES
        values = {name: measure(step, prediction) for name, (_, measure) in measures.items()}
        if self.error:
            values |= self._errors(step, prediction)
        self._append({"step": torch.tensor(step.index)} | values | step.notes)
        return prediction

    def _append(self, values: dict[str, torch.Tensor]) -> None:
        run = self.runs[-1]
        rows = len(run.get("step", ()))
        for name in values.keys() - run.keys():
            if not name.startswith("_"):
                run[name] = [None] * rows
        for name, row in run.items():
            row.append(values[name].detach() if name in values else None)

    def _errors(self, step: Step, prediction: torch.Tensor) -> dict[str, torch.Tensor]:
        found = {"error": step.notes.get(UNCORRECTED, prediction), "cond_error": step.cond}
        errors = {name: step_error(p, p if self._target is None else self._target) for name, p in found.items()}
        self._target = next_target(step, prediction) if has_next(step) else None
        return errors

    def accumulated_error(self, run: int = -1, name: str = "error") -> torch.Tensor:
        """(B,) float32 on the CPU: `error`, or `cond_error`, of one call of the pipeline, summed over its steps.

        Raises:
            ValueError: nothing, or no error, was recorded.
        """
        data = self.to_dict(run)
        if name not in data:
            raise ValueError(f"the trace has no {name}; make it with Trace(error=True)")
        return data[name].nansum(0)

    def clear(self) -> None:
        """Forget what was recorded."""
        self.runs.clear()

    def to_dict(self, run: int = -1) -> dict[str, torch.Tensor]:
        """One call of the pipeline: name -> (rows,) or (rows, B) float32 CPU tensor, a row for each evaluation; NaN
        where a value is missing. The one transfer happens here.

        Raises:
            ValueError: nothing was recorded.
        """
        if not self.runs:
            raise ValueError("the trace is empty: call the pipeline while the trace is attached, then ask")
        return {name: _stacked(values) for name, values in self.runs[run].items()}

    def to_json(self, path: str | os.PathLike) -> Path:
        """Write all calls as `{"runs": [{name: numbers}, ...]}`, atomically; values that are not finite become null."""
        runs = [
            {name: finite(values.tolist()) for name, values in self.to_dict(run).items()}
            for run in range(len(self.runs))
        ]
        return write_json(path, {"runs": runs})

    def plot(
        self, path: str | os.PathLike | None = None, names: tuple[str, ...] = ("ratio", "weight"), run: int = -1
    ) -> "Figure":
        """Draw the named values over the steps, one line per sample and the mean: a matplotlib figure.

        Notebooks show it. With `path` it is also written there, as PNG, PDF or SVG.

        Raises:
            ValueError: nothing, or no such value, was recorded.
        """
        data = self.to_dict(run)
        if missing := [name for name in names if name not in data]:
            raise ValueError(f"the trace has no {', '.join(missing)}; it has {', '.join(data)}")
        figure, places = panels(len(names), 5, 3.6)
        for axes, name in zip(places, names, strict=True):
            steps, values = data["step"].numpy(), data[name].reshape(len(data[name]), -1)
            faint = min(0.5, 4 / values.shape[1])
            axes.plot(steps, values.numpy(), ".-", markersize=2, color="tab:blue", alpha=faint, linewidth=0.8)
            axes.plot(steps, values.nanmean(1).numpy(), color="tab:red", linewidth=2, label="mean over samples")
            axes.set(xlabel="step", ylabel=_LABELS.get(name, name), **_limits(values))
            axes.legend(frameon=False)
            axes.grid(alpha=0.3)
        if path is not None:
            write_plot(path, figure)
        return figure


def _stacked(values: list[torch.Tensor | None]) -> torch.Tensor:
    missing = torch.full_like(next(value for value in values if value is not None), torch.nan, dtype=torch.float32)
    return torch.stack([missing if value is None else value.float() for value in values]).cpu()


def _limits(values: torch.Tensor) -> dict:
    """Of the axis: none smaller than a tenth of the values, so that rounding does not look like a change."""
    finite = values[values.isfinite()]
    if not len(finite):
        return {}
    low, high = finite.min().item(), finite.max().item()
    least = 0.1 * max(abs(low), abs(high))
    if high - low > least:
        return {}
    middle = (low + high) / 2
    return {"ylim": (middle - least / 2 or -0.5, middle + least / 2 or 0.5)}


def finite(value: Any) -> Any:
    """A number, or lists of them, as JSON has it: None in place of NaN and infinity."""
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return value if -float("inf") < value < float("inf") else None
