"""What `diffusion-guidance calibrate` measures and reports: a classifier's probabilities along trajectories."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..core.protocols import Pipeline
from ..evaluation.report import markdown_table
from ..evaluation.sampling import sample
from ..methods.classifier.calibration_trace import CalibrationTrace, calibration_rows
from ..methods.classifier.temperatures import calibration, fit_temperature, reliability_plot


COLUMNS = ("classifier", "temperature", "tau", "step", "sigma", "ece", "ece_adaptive", "brier", "nll", "accuracy")

Labelled = tuple[torch.Tensor, torch.Tensor]  # logits and labels


def draw(
    pipe: Pipeline, traces: Mapping[str, CalibrationTrace], asked: list, seeds: Sequence[int], **call: Any
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Images of `seeds`, whose conditions are `asked` in rotation, and the logits (B, steps, K) of each trace.

    The class of an image is its condition, or the number of its prompt.
    """
    conditions = [asked[seed % len(asked)] for seed in seeds]
    for trace in traces.values():
        trace.clear()
        trace.labels = [each if isinstance(each, int) else asked.index(each) for each in conditions]
    images = sample(pipe, conditions, seeds, list(traces.values()), output_type="pt", **call)[0].images
    arrays = {key: trace.collected()[0].transpose(0, 1).contiguous() for key, trace in traces.items()}
    levels = torch.tensor([list(level.values()) for level in trace.levels()], dtype=torch.float64)
    levels = levels.expand(len(seeds), -1, -1).contiguous()  # the same for all, so that they are kept too
    return images, arrays | {"labels": trace.collected()[1], "levels": levels}


def report(fitted: Labelled, held_out: Labelled, levels: Sequence[dict], **facts: object) -> list[dict]:
    """Rows of the held-out set, before and after fitting on the other set; rows without a step are of all steps."""
    tau = fit_temperature(*fitted)
    own = [fit_temperature(values, fitted[1]) for values in fitted[0]]
    logits, labels = held_out
    rows = []
    for name, factor in (("none", 1.0), ("one", tau), ("one a step", own)):
        single = None if isinstance(factor, list) else factor
        scaled = torch.tensor(factor, dtype=torch.float64).reshape(-1, 1, 1) * logits
        whole = {"step": None, "tau": single, "samples": len(labels), **calibration(scaled, labels)}
        rows += [facts | {"temperature": name} | row for row in (whole, *calibration_rows(levels, *held_out, factor))]
    return rows


def plot(path: Path, held_out: Labelled, tau: float) -> None:
    """Reliability diagrams of all steps, of the first fifth and of the last."""
    logits, labels = held_out
    part = max(1, len(logits) // 5)
    panels = {"all steps": logits, "first fifth of the steps": logits[:part], "last fifth of the steps": logits[-part:]}
    curves = {
        title: {"as it is": (values, labels), f"tau {tau:.3g}": (tau * values, labels)}
        for title, values in panels.items()
    }
    reliability_plot(path, curves)


def table(rows: list[dict], every: int = 10) -> str:
    """All steps together; then, of the classifier that guides, every so many steps and the last one."""
    guides, last = rows[-1]["classifier"], rows[-1]["step"]
    shown = [row | {"step": "all"} for row in rows if row["step"] is None]
    own = [row for row in rows if row["classifier"] == guides and row["step"] is not None]
    shown += [row for row in own if row["step"] % every == 0 or row["step"] == last]
    return markdown_table(shown, COLUMNS, 3)


def document(meta: dict, rows: list[dict]) -> str:
    """The table with what it rests on."""
    facts = f"{meta['samples']} images to fit on, {meta['samples']} others here; {meta['steps']} DDPM steps.\n\n"
    return facts + table(rows)
