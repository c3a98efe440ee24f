"""DiffIER against plain guidance and RAAG at equal evaluations, in both worlds: docs/results/diffier.json and plots.

Every row of a world is drawn from the same seeds. Finished rows are kept in --work, so a killed study goes on where it
stopped, and the rows that matter most come first: after a kill, fewer --budgets give the report of what is there.
About 40 minutes on two cores (the digits 10 of them):

    python scripts/study_diffier.py
    python scripts/study_diffier.py --worlds digits --samples 100 --budgets 10 --out out/quick.json     # a quick look
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from diffusers import DDIMScheduler

from guidance import CFG, RAAG, DiffIER, Trace
from guidance.evaluation import Subject, describe_run, markdown_table, study, write_report
from guidance.evaluation.sensitivity import rank_correlation, sensitivity
from guidance.files import write_atomic
from guidance.generation import load_pipeline
from guidance.worlds.subjects import WORLDS, load_subject
from pipelines import ClassConditionalPipeline


WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
RAAG_WEIGHTS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0)  # w_max; at 1 and below it is no other than plain guidance
RAAG_ALPHA = 2.0
DEAR = 40  # evaluations from which only these weights are measured, last, and without reuse
DEAR_WEIGHTS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
BUDGETS = (10, 5, 20, 40)  # network evaluations, the most telling first
SAMPLES = {"digits": 1000, "shapes": 300}
BATCH = {"digits": 250, "shapes": 150}
DTYPE = {"digits": "float32", "shapes": "bfloat16"}
#: Beside the default of one iteration with step size 0.5, at these weights and the first budget.
VARIED_WEIGHTS = (1.0, 2.0, 4.0)
VARIED = (
    {"step_size": 0.25},
    {"step_size": 1.0},
    {"iterations": 2, "step_size": 0.3},
    {"objective": "renoise", "step_size": 0.2},
    {"objective": "renoise", "step_size": 0.5},
    {"objective": "renoise", "step_size": 1.0},
    {"reuse": True, "step_size": 0.25},
    {"reuse": True, "step_size": 1.0},
)
ERRORS = ("error", "cond_error")
_DEFAULT = {"iterations": 1, "step_size": 0.5, "objective": "pair", "reuse": False}
#: The settings of DiffIER that are measured at every weight and budget.
KINDS = {"": {}, ", renoise": {"objective": "renoise", "step_size": 0.8}, ", reuse": {"reuse": True}}
LABELS = {"cfg": "CFG", "raag": "RAAG"}
LABELS |= {f"diffier{kind}": f"DiffIER{kind}" for kind in KINDS}
LABELS |= {f"raag+diffier{kind}": f"RAAG + DiffIER{kind}" for kind in KINDS}


def steps_of(budget: int, iterations: int = 0, reuse: bool = False) -> int:
    """The most steps that cost at most `budget` evaluations: N + K (N - 1) of them, or 1 + K (N - 1) with reuse."""
    if iterations == 0:
        return budget
    return 1 + (budget - 1) // iterations if reuse else (budget + iterations) // (iterations + 1)


def row(method: str, weight: float, budget: int, **settings) -> dict:
    """What tells one row from others."""
    given = {"method": method, "weight": weight, "budget": budget}
    if "diffier" not in method:
        return given | {"steps": budget}
    settings = _DEFAULT | settings
    return given | {"steps": steps_of(budget, settings["iterations"], settings["reuse"])} | settings


def table(budgets: Sequence[int] = BUDGETS) -> list[dict]:
    """All rows of a world, the most telling first."""
    rows = []
    cheap = [budget for budget in budgets if budget < DEAR]
    for budget in cheap:
        for method, settings in (("cfg", {}), *(("diffier", settings) for settings in KINDS.values())):
            rows += [row(method, weight, budget, **settings) for weight in WEIGHTS]
    kinds = [settings for settings in KINDS.values() if "reuse" not in settings]
    for budget in cheap[:2]:
        for method, settings in (("raag", {}), *(("raag+diffier", settings) for settings in kinds)):
            rows += [row(method, weight, budget, **settings) for weight in RAAG_WEIGHTS]
    rows += [row("diffier", weight, budgets[0], **varied) for varied in VARIED for weight in VARIED_WEIGHTS]
    for budget in (budget for budget in budgets if budget >= DEAR):
        for method, settings in (("cfg", {}), *(("diffier", settings) for settings in kinds)):
            rows += [row(method, weight, budget, **settings) for weight in DEAR_WEIGHTS]
    return rows


def guidance(given: Mapping, trace: Trace) -> list:
    """The callbacks of a row, with an observer."""
    combine = RAAG(given["weight"], RAAG_ALPHA) if given["method"].startswith("raag") else CFG(given["weight"])
    reduce = [DiffIER(**{name: given[name] for name in _DEFAULT})] if "diffier" in given["method"] else []
    return [combine, *reduce, trace]


def load_world(world: str, assets: Path):
    if world == "shapes":
        return load_pipeline(str(assets / world), DTYPE[world])
    pipe = load_pipeline(str(assets / world), DTYPE[world], loader=ClassConditionalPipeline.from_pretrained)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    return pipe


def with_error(subject: Subject, trace: Trace, current: Mapping) -> Subject:
    """`subject` that also stores the accumulated errors of each picture, and calls its score `alignment`.

    With reused evaluations (told by the row, `current`) the trace does not know what the network says at the sample, so
    no error is stored.
    """

    def measure(images: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        arrays = subject.measure(images, seeds)
        if "accuracy" in arrays:
            arrays["alignment"] = arrays.pop("accuracy")
        if not current.get("reuse"):
            arrays |= {name: trace.accumulated_error(name=name) for name in ERRORS}
        trace.clear()
        return arrays

    return replace(subject, measure=measure)


def measure_world(world: str, rows: Sequence[Mapping], assets: Path, work: Path, samples: int) -> list[dict]:
    pipe, trace = load_world(world, assets), Trace(levels=False, error=True)
    current: dict = {}
    subject = with_error(load_subject(world, assets), trace, current)

    def setting(given: Mapping):
        current.clear()
        current.update(given)
        # The scale only switches the unconditional pass on.
        return pipe, guidance(given, trace), {"guidance_scale": 2.0, "num_inference_steps": given["steps"]}

    found = study(rows, setting, work / f"{world}-{samples}", subject, range(samples), batch_size=BATCH[world])
    return [{"world": world, **each} for each in found]


def curve(given: Mapping) -> str:
    """The name of the curve that a row belongs to, or "" for one of the varied settings."""
    if "diffier" not in given["method"]:
        return given["method"]
    settings = {name: given[name] for name in _DEFAULT}
    return next((given["method"] + kind for kind, own in KINDS.items() if settings == _DEFAULT | own), "")


def curves(rows: Sequence[Mapping]) -> dict[tuple[str, int, str], list[Mapping]]:
    """(world, budget, curve) -> its rows, by weight."""
    result: dict[tuple[str, int, str], list[Mapping]] = {}
    for given in sorted(rows, key=lambda given: (given["world"], given["budget"], given["weight"])):
        if name := curve(given):
            result.setdefault((given["world"], given["budget"], name), []).append(given)
    return result


def summary(rows: Sequence[Mapping]) -> list[dict]:
    """A line for each curve: the best Frechet distance, where, and in which range of weights it is within 20 %."""
    lines, found = [], curves(rows)
    for (world, budget, name), part in found.items():
        spread = sensitivity(part)
        best = next(each for each in part if each["weight"] == spread["at"])
        line = {"world": world, "evaluations": f"{best['nfe']:g}", "method": LABELS[name], "steps": best["steps"]}
        line |= {"frechet": spread["best"], "weight": spread["at"], "alignment": best["alignment"]}
        line["within 20 %"] = f"{spread['low']:.2f} to {spread['high']:.2f}"
        line["width"] = spread["width"]
        plain = "raag" if name.startswith("raag") else "cfg"
        line["better than without"] = wins(part, found.get((world, budget, plain), [])) if name != plain else None
        with_errors = [each for each in part if each.get("error") is not None]
        for error in ERRORS:
            known = len(with_errors) > 2
            line[f"rank correlation, {error}"] = rank_correlation(with_errors, error, "frechet") if known else None
        lines.append(line)
    return lines


def wins(rows: Sequence[Mapping], plain: Sequence[Mapping]) -> str:
    """At how many of the common weights `rows` has the smaller Frechet distance."""
    other = {each["weight"]: each["frechet"] for each in plain}
    pairs = [(each["frechet"], other[each["weight"]]) for each in rows if each["weight"] in other]
    return f"{sum(ours < theirs for ours, theirs in pairs)} of {len(pairs)} weights"


def summary_table(rows: Sequence[Mapping]) -> str:
    lines = summary(rows)
    return markdown_table(lines, {name: name for name in lines[0]}, digits=3) if lines else ""


def headline(rows: Sequence[Mapping]) -> str:
    """The summary of about ten and twenty evaluations, without what reuses them."""
    columns = ["world", "evaluations", "method", "steps", "weight", "frechet", "alignment", "within 20 %"]
    rows = [each for each in rows if each["budget"] in (10, 20) and not each.get("reuse")]
    return markdown_table(summary(rows), columns, digits=3)


def varied_table(rows: Sequence[Mapping]) -> str:
    """The settings of DiffIER at the first budget, beside CFG."""
    part = [each for each in rows if each["budget"] == BUDGETS[0] and each["weight"] in VARIED_WEIGHTS]
    part = [each for each in part if each["method"] in ("cfg", "diffier")]
    part.sort(key=lambda each: (each["world"], each["weight"], each["method"], each.get("reuse", False)))
    columns = ["world", "weight", "method", "objective", "iterations", "step_size", "reuse", "steps", "nfe"]
    return markdown_table(part, [*columns, "alignment", "frechet", *ERRORS], digits=3)


def steps_table(rows: Sequence[Mapping], steps: int = 10) -> str:
    """Plain guidance beside DiffIER at equal steps, so at about half the evaluations."""
    part = [each for each in rows if each["steps"] == steps and curve(each) and "reuse" not in curve(each)]
    part = [each | {"method": LABELS[curve(each)]} for each in part]
    part.sort(key=lambda each: (each["world"], each["weight"], each["nfe"]))
    return markdown_table(
        part, ["world", "weight", "method", "steps", "nfe", "alignment", "frechet", *ERRORS], digits=3
    )


def plot_error(path: Path, rows: Sequence[Mapping], budget: int) -> Path:
    """Accumulated error and Frechet distance of plain guidance against the weight, in one plot a world."""
    from matplotlib.figure import Figure  # lazy, and without pyplot's global state

    parts = {world: part for (world, b, name), part in curves(rows).items() if b == budget and name == "cfg"}
    figure = Figure(figsize=(5.6 * len(parts), 3.8), layout="constrained")
    for axes, (world, part) in zip(figure.subplots(1, len(parts), squeeze=False)[0], parts.items(), strict=True):
        weights, other = [each["weight"] for each in part], axes.twinx()
        for place, name, color in (
            (axes, "error", "tab:red"),
            (axes, "cond_error", "tab:orange"),
            (other, "frechet", "tab:blue"),
        ):
            place.plot(weights, [each[name] for each in part], color=color, marker="o", markersize=4, label=name)
            place.set_yscale("log")
        axes.set_ylabel("accumulated error", color="tab:red")
        other.set_ylabel("Frechet distance", color="tab:blue")
        axes.legend(frameon=False)
        found = " and ".join(f"{rank_correlation(part, error, 'frechet'):.2f}" for error in ERRORS)
        axes.set(xlabel="guidance weight", title=f"{world}, {budget} steps: rank correlations {found}")
        axes.grid(alpha=0.3)
    return write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=150))


def plot_weights(path: Path, rows: Sequence[Mapping]) -> Path:
    """Frechet distance against the weight at equal evaluations: a row a world, a column a budget."""
    from matplotlib.figure import Figure

    found = curves(rows)
    worlds, budgets = sorted({key[0] for key in found}), sorted({key[1] for key in found})
    figure = Figure(figsize=(3.6 * len(budgets), 3.4 * len(worlds)), layout="constrained")
    panels = figure.subplots(len(worlds), len(budgets), squeeze=False, sharex=True)
    colors = {name: f"C{number}" for number, name in enumerate(LABELS)}
    for (world, budget, name), part in found.items():
        axes = panels[worlds.index(world), budgets.index(budget)]
        points = [[each[key] for each in part] for key in ("weight", "frechet")]
        axes.plot(*points, color=colors[name], marker="o", markersize=3, label=LABELS[name])
        axes.set(yscale="log", xlabel="guidance weight", ylabel="Frechet distance")
        axes.set_title(f"{world}, {budget} evaluations")
        axes.grid(alpha=0.3)
    panels[0, 0].legend(frameon=False, fontsize=8)
    return write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=150))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=["digits", "shapes"])
    parser.add_argument("--samples", type=int, help="pictures a row (default 1000 digits, 300 shapes)")
    parser.add_argument("--budgets", type=int, nargs="+", default=list(BUDGETS), help="evaluations a picture")
    parser.add_argument("--out", type=Path, default=Path("docs/results/diffier.json"))
    parser.add_argument("--work", type=Path, default=Path("out/study-diffier"), help="finished rows")
    args = parser.parse_args(arguments)

    samples = {world: args.samples or SAMPLES[world] for world in args.worlds}
    rows = []
    for world in args.worlds:
        rows += measure_world(world, table(args.budgets), args.assets, args.work, samples[world])
    seeds = {world: f"0-{count - 1}" for world, count in samples.items()}
    write_report(args.out, describe_run(samples=samples, seeds=seeds, dtype=DTYPE, raag_alpha=RAAG_ALPHA), rows)
    print(plot_error(args.out.with_name(f"{args.out.stem}-error.png"), rows, args.budgets[0]))
    print(plot_weights(args.out.with_suffix(".png"), rows))
    print(args.out, summary_table(rows), sep="\n\n")


if __name__ == "__main__":
    main()
