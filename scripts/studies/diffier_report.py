"""Tables and plots of scripts/studies/diffier.py, from the rows of its results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffusion_guidance.core.plots import canvas, colors, logarithmic, panels, write_plot
from diffusion_guidance.evaluation import markdown_table
from diffusion_guidance.evaluation.metrics.sensitivity import rank_correlation, sensitivity
from scripts.studies.diffier_rows import BUDGETS, DIFFERENCE, KINDS, curve


ERRORS = ("error", "cond_error")
LABELS = {"cfg": "CFG", "raag": "RAAG"}
LABELS |= {f"diffier{kind}": f"DiffIER{kind}" for kind in KINDS}
LABELS |= {f"raag+diffier{kind}": f"RAAG + DiffIER{kind}" for kind in KINDS}


def curves(rows: Sequence[Mapping], equal: str = "budget") -> dict[tuple[str, int, str], list[Mapping]]:
    """(world, budget or steps, curve) -> its rows, by weight."""
    result: dict[tuple[str, int, str], list[Mapping]] = {}
    for given in sorted(rows, key=lambda given: (given["world"], given[equal], given["weight"])):
        if name := curve(given):
            result.setdefault((given["world"], given[equal], name), []).append(given)
    return result


def best_rows(rows: Sequence[Mapping]) -> list[dict]:
    """The best row of each curve at equal evaluations, with `low` and `high`, see `spread`."""
    result = []
    for part in curves(rows).values():
        ends = sensitivity(part)
        best = next(each for each in part if each["weight"] == ends["at"])
        result.append(best | {name: spread(part)[name] for name in ("low", "high")})
    return result


def spread(part: Sequence[Mapping]) -> dict:
    """The range of weights in which a curve is within 20 % of its best, by distances minus their bias.

    The bias of few images is the same for all weights, and so would widen the range of any curve.
    """
    # Of very few images the bias may be more than the whole.
    return sensitivity([each | {"less_bias": max(each["frechet_corrected"], 0.0)} for each in part], y="less_bias")


def summary(rows: Sequence[Mapping], equal: str = "budget") -> list[dict]:
    """A line for each curve: its best row, the range of weights within 20 % of it, and what DiffIER changes.

    Args:
        equal: "budget" compares curves at equal evaluations, "steps" at equal steps, where there is a plain one.
    """
    lines, found = [], curves(rows, equal)
    for (world, number, name), part in found.items():
        if (world, number, "cfg") not in found:
            continue
        ends, less_bias = sensitivity(part), spread(part)
        best = next(each for each in part if each["weight"] == ends["at"])
        line = {"world": world, "steps": best["steps"], "evaluations": f"{best['nfe']:g}", "method": LABELS[name]}
        line |= {"weight": ends["at"], "frechet": ends["best"], "alignment": best["alignment"]}
        line["within 20 %"] = range_text(ends)
        line["within 20 %, minus bias"] = range_text(less_bias)
        line["better, worse than without"] = better_and_worse(part, DIFFERENCE[equal])
        with_errors = [each for each in part if each.get("error") is not None]
        for error in ERRORS:
            known = len(with_errors) > 2
            line[f"rank correlation, {error}"] = rank_correlation(with_errors, error, "frechet") if known else None
        lines.append(line)
    return lines


def range_text(ends: Mapping) -> str:
    return f"{ends['low']:.2f} to {ends['high']:.2f}, {ends['width']:.2f} wide"


def better_and_worse(rows: Sequence[Mapping], field: str) -> str | None:
    """At how many weights the difference `field` is below 0, and above; and at how many its interval is."""
    known = [each for each in rows if field in each]
    if not known:
        return None
    better, worse = (sum(sign * each[field] > 0 for each in known) for sign in (-1, 1))
    surely_better = sum(each[f"{field}_interval"][1] < 0 for each in known)
    surely_worse = sum(each[f"{field}_interval"][0] > 0 for each in known)
    return f"{better} ({surely_better}), {worse} ({surely_worse})"


def summary_table(rows: Sequence[Mapping], equal: str = "budget") -> str:
    lines = summary(rows, equal)
    if equal == "steps":  # the errors are in the other one
        lines = [{name: value for name, value in line.items() if "correlation" not in name} for line in lines]
    return markdown_table(lines, list(lines[0]), digits=3) if lines else ""


def best_table(rows: Sequence[Mapping], others: Sequence[str] = ("cfg", "raag", "diffier")) -> str:
    """The best weights on other seeds, each with its differences to those of `others` that it is compared with."""
    lines = []
    for each in rows:
        line = {"world": each["world"], "evaluations": f"{each['nfe']:g}", "method": LABELS[curve(each)]}
        line |= {name: each[name] for name in ("steps", "weight", "frechet", "alignment")}
        line["within 20 %"] = f"{each['low']:.2f} to {each['high']:.2f}"
        lines.append(line | {name: value for name, value in each.items() if name.startswith("difference")})
    headings = {name: name for name in lines[0] if not name.startswith("difference")}
    headings |= {f"difference_to_{name}": f"difference to {LABELS[name]}" for name in others}
    return markdown_table(lines, headings, digits=3)


def varied_table(rows: Sequence[Mapping]) -> str:
    """The settings of DiffIER without a curve, next to CFG and those with one, at the same weights."""
    places = {(each["weight"], each["budget"]) for each in rows if not curve(each)}
    part = [
        each for each in rows if (each["weight"], each["budget"]) in places and each["method"] in ("cfg", "diffier")
    ]
    part.sort(key=lambda each: (each["world"], each["weight"], each["method"], each.get("reuse", False)))
    columns = ["world", "weight", "method", "objective", "iterations", "step_size", "reuse", "steps", "nfe"]
    return markdown_table(part, [*columns, "alignment", "frechet", *ERRORS], digits=3)


def steps_table(rows: Sequence[Mapping], steps: int = 10) -> str:
    """Plain guidance next to DiffIER at equal steps, so at about half the evaluations, weight by weight."""
    part = [each for each in rows if each["steps"] == steps and curve(each) and not each.get("reuse")]
    part = [each | {"method": LABELS[curve(each)]} for each in part]
    part.sort(key=lambda each: (each["world"], each["weight"], each["nfe"]))
    columns = ["world", "weight", "method", "nfe", "alignment", "frechet", DIFFERENCE["steps"], *ERRORS]
    return markdown_table(part, columns, digits=3)


def plot_error(path: Path, rows: Sequence[Mapping]) -> Path:
    """Accumulated error and Frechet distance of plain guidance against the weight, in one plot a world."""
    budget = next(each for each in BUDGETS if each in {row["budget"] for row in rows})
    parts = {world: part for (world, b, name), part in curves(rows).items() if b == budget and name == "cfg"}
    figure, shown = panels(len(parts), 5.6, 3.8)
    for axes, (world, part) in zip(shown, parts.items(), strict=True):
        weights, other = [each["weight"] for each in part], axes.twinx()
        for place, name, color in (
            (axes, "error", "tab:red"),
            (axes, "cond_error", "tab:orange"),
            (other, "frechet", "tab:blue"),
        ):
            place.plot(weights, [each[name] for each in part], color=color, marker="o", markersize=4, label=name)
            logarithmic(place, "y")
        axes.set_ylabel("accumulated error", color="tab:red")
        other.set_ylabel("Frechet distance", color="tab:blue")
        axes.legend(frameon=False)
        found = " and ".join(f"{rank_correlation(part, error, 'frechet'):.2f}" for error in ERRORS)
        axes.set(xlabel="guidance weight", title=f"{world}, {budget} steps: rank correlations {found}")
        axes.grid(alpha=0.3)
    return write_plot(path, figure)


def plot_weights(path: Path, rows: Sequence[Mapping]) -> Path:
    """Frechet distance against the weight at equal evaluations: a row a world, a column a budget."""
    found = curves(rows)
    worlds, budgets = sorted({key[0] for key in found}), sorted({key[1] for key in found})
    figure = canvas(3.6 * len(budgets), 3.4 * len(worlds))
    places = figure.subplots(len(worlds), len(budgets), squeeze=False, sharex=True)
    color = colors(LABELS)
    for (world, budget, name), part in found.items():
        axes = places[worlds.index(world), budgets.index(budget)]
        points = [[each[key] for each in part] for key in ("weight", "frechet")]
        axes.plot(*points, color=color[name], marker="o", markersize=3, label=LABELS[name])
        logarithmic(axes, "y")
        axes.set(xlabel="guidance weight", ylabel="Frechet distance")
        axes.set_title(f"{world}, {budget} evaluations")
        axes.grid(alpha=0.3)
    figure.legend(
        *places[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(LABELS), frameon=False
    )
    return write_plot(path, figure)
