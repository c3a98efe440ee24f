"""Tables and the plot of scripts/studies/elucd.py, from the rows of its results."""

from collections.abc import Sequence
from pathlib import Path

from diffusion_guidance.core.plots import panels, write_plot
from diffusion_guidance.evaluation import markdown_table


COLUMNS = {
    "method": "method",
    "scale": "scale",
    "weight": "CFG weight",
    "frechet": "Frechet distance",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "time_ratio": "time",
}


def plot(path: Path, rows: Sequence[dict]) -> Path:
    """Bars: the Frechet distance by method, a group for each sampler."""
    groups = list(dict.fromkeys((row["sampler"], row["steps"]) for row in rows))
    figure, places = panels(len(groups), 4.2, 3.8)
    for axes, group in zip(places, groups, strict=True):
        part = [row for row in rows if (row["sampler"], row["steps"]) == group][::-1]
        names, values = [row["method"] for row in part], [row["frechet"] for row in part]
        lowest = min(values)
        shades = ["C3" if value == lowest else "0.65" for value in values]  # the best one has a colour
        axes.barh(names, values, color=shades)
        for place, row in enumerate(part):
            axes.hlines(place, *row["frechet_interval"], color="0.2")
            axes.text(row["frechet_interval"][1], place, f" {_bar_text(row)}", va="center", fontsize=8)
        axes.set(xlabel="Frechet distance", title=f"{group[0].upper()}, {group[1]} steps")
        axes.margins(x=0.55)
    return write_plot(path, figure)


def _bar_text(row: dict) -> str:
    return f"{row['frechet']:.2f}" + (f", time {row['time_ratio']:.2f}" if "time_ratio" in row else "")


def summary_table(rows: Sequence[dict]) -> str:
    """A markdown table for each sampler, with its heading."""
    rows = [{name: row.get(name) for name in (*COLUMNS, "sampler", "steps", "samples")} for row in rows]
    groups = dict.fromkeys((row["sampler"], row["steps"], row["samples"]) for row in rows)
    return "\n".join(
        f"{sampler.upper()}, {steps} steps, {samples} samples:\n\n"
        + markdown_table([row for row in rows if (row["sampler"], row["steps"]) == (sampler, steps)], COLUMNS, digits=3)
        for sampler, steps, samples in groups
    )
