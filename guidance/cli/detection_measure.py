"""What `diffusion-guidance detect measure` does: how well a detector tells two sets of images apart."""

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

from ..core.files import write_atomic
from ..core.locking import locked_folder
from ..core.plots import canvas, png
from ..detection.cautions import READING, ImageKinds, difference_cautions, encoder_cautions
from ..detection.corruptions import METRICS, RECODINGS, detection_figures
from ..detection.results import settings_path
from ..evaluation.report import describe_run, markdown_table, write_report
from ..evaluation.summary import estimates_row
from . import page
from .detection_job import ScoringJob, Tally, distinct, make_detector, run, warn


REAL, FAKE = "real", "generated"
RESIZED = "resize 0.5"
CONTROL = "real, resized"  # against the real ones: how the score takes lost sharpness, which is not generation
LABELS = dict(zip(METRICS, ("AUROC", "average precision", "FPR at 95 % TPR"), strict=True))
COLUMNS = {name: name for name in ("against real", "recoding", "real", "others")} | LABELS
FEW = 30  # images per side; intervals of fewer are too narrow
ABOUT = (
    "A low score means generated. Real images are the positive class of AUROC and average precision; FPR at 95 % TPR "
    "is the part of generated images that pass as real where 95 % of the real ones do. Brackets hold 95 % intervals "
    "(bootstrap over images). The last row has no generated image: it sets the real ones against themselves at half "
    "the size and back."
)


def run_measure(args: Namespace) -> Tally:
    out: Path = args.out
    sources = {REAL: args.real, FAKE: args.fake}
    every = [(side, change) for change in RECODINGS for side in sources]
    tables = {(side, change): out / f"{side}-{change.replace(' ', '-')}.csv" for side, change in every}
    own = [out / name for name in ("report.html", "measure.png")] + [
        file for table in tables.values() for file in (table, settings_path(table))
    ]
    listed = {side: ScoringJob.of(args, [source], own, None) for side, source in sources.items()}
    jobs = {
        (side, change): replace(listed[side], table=table, change=change, title=f"{side}, {change}")
        for (side, change), table in tables.items()
    }
    with locked_folder(out):
        detector = make_detector(args, None)
        tallies: dict[tuple[str, str], Tally] = {}
        for key, job in jobs.items():
            tallies[key] = run(job, detector)
            if key == (FAKE, "none"):
                kept = told_apart(tallies[REAL, "none"], tallies[key])
        scores = {key: chosen(tally, kept) for key, tally in tallies.items()}
        rows = measured(scores)
        cautions = encoder_cautions(detector.identity) + cautions_of(rows, tallies)
        facts = {"samples": rows[0]["samples"], **sources, "identity": detector.identity}
        write_report(out / "report.json", describe_run(**facts, cautions=cautions, reading=READING), rows)
        publish(out, rows, cautions, scores)
    for side in sources:
        tallies[side, "none"].report()
    print(markdown_table(rows, COLUMNS, 3), f"\npage: {out / 'report.html'}", sep="")
    warn(cautions)
    total = Tally()
    total.errors = [error for tally in tallies.values() for error in tally.errors]
    return total


def told_apart(real: Tally, fake: Tally) -> set[str]:
    """The paths that count: of files with the same bytes the first one.

    Raises:
        ValueError: a side has no image, or both have the same one.
    """
    for side, tally in ((REAL, real), (FAKE, fake)):
        if not tally.scores:
            tally.report()
            raise ValueError(f"none of the {side} images could be scored")
    first, second = distinct(real), distinct(fake)
    if both := first.keys() & second.keys():
        example = second[min(both)][0]
        raise ValueError(f"{len(both)} images are real and generated at once, such as {example}; take them out")
    return {path for path, _ in (*first.values(), *second.values())}


def chosen(tally: Tally, kept: set[str]) -> list[float]:
    return [score for path, score in zip(tally.paths, tally.scores, strict=True) if path in kept]


def measured(scores: Mapping[tuple[str, str], list[float]]) -> list[dict]:
    """One row per recoding, both sides recoded alike; then the control."""
    pairs = {(FAKE, change): (scores[REAL, change], scores[FAKE, change]) for change in RECODINGS}
    pairs[CONTROL, RESIZED] = scores[REAL, "none"], scores[REAL, RESIZED]
    rows = []
    for (against, change), sides in tqdm(pairs.items(), desc="intervals", unit="row"):
        real, fake = (torch.tensor(side, dtype=torch.float64) for side in sides)
        found = detection_figures(real, fake)
        row = {"against real": against, "recoding": change, "real": len(real), "others": len(fake)}
        rows.append(row | {"samples": len(real) + len(fake)} | estimates_row(found))
    return rows


def cautions_of(rows: Sequence[Mapping], tallies: Mapping[tuple[str, str], Tally]) -> list[str]:
    real, fake = tallies[REAL, "none"], tallies[FAKE, "none"]
    found = difference_cautions(fake.kinds, ImageKinds.of(real.kinds), "the real ones", "generated images")
    first, control = rows[0], rows[-1]
    if control["auroc"] >= first["auroc"] and control["auroc_interval"][0] > 0.5:
        found.append(
            f"real images at half the size and back are found as well as generated ones (AUROC {control['auroc']:.3g} "
            f"and {first['auroc']:.3g}), so the score may measure lost sharpness"
        )
    if min(first["real"], first["others"]) < FEW:
        found.append(f"a side has fewer than {FEW} images, and the intervals of so few are too narrow")
    return found


def publish(
    out: Path, rows: Sequence[Mapping], cautions: Sequence[str], scores: Mapping[tuple[str, str], list[float]]
) -> None:
    """Write report.md, measure.png and report.html."""
    table = markdown_table(rows, COLUMNS, 3)
    text = "\n".join([table, ABOUT, "", *(f"Caution: {caution}.\n" for caution in cautions)])
    write_atomic(out / "report.md", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    plot = draw(rows, scores)
    write_atomic(out / "measure.png", lambda temporary: temporary.write_bytes(plot))
    body = [
        page.cautions(cautions),
        page.table(table),
        f"<p>{page.text(ABOUT)}</p>\n",
        page.image(plot, "the same, drawn"),
    ]
    page.write_page(out / "report.html", "Real and generated images, distinguished", body)


def draw(rows: Sequence[Mapping], scores: Mapping[tuple[str, str], list[float]]) -> bytes:
    """A PNG: the values of each row with their intervals, and the scores of both sides as they are."""
    figure = canvas(11, 4.2)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for number, name in enumerate(METRICS):
        for place, row in enumerate(rows):
            x = place + 0.16 * (number - 1)
            (point,) = left.plot(x, row[name], "o", color=f"C{number}", label=LABELS[name] if not place else None)
            left.vlines(x, *row[f"{name}_interval"], color=point.get_color(), alpha=0.6)
    left.axhline(0.5, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    left.axvline(len(rows) - 1.5, color="0.85", zorder=0)
    names = [row["recoding"] if row["against real"] == FAKE else "control:\nreal, resized" for row in rows]
    left.set_xticks(range(len(rows)), names)
    left.set(ylim=(-0.02, 1.02), title="real against generated, with 95 % intervals")
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower left", ncols=3, frameon=False)
    ends = [end for side in (REAL, FAKE) for end in scores[side, "none"]]
    for number, side in enumerate((REAL, FAKE)):
        values = scores[side, "none"]
        weights = [1 / len(values)] * len(values)
        right.hist(
            values, 30, range=(min(ends), max(ends)), weights=weights, alpha=0.55, color=f"C{number}", label=side
        )
    right.set(xlabel="score; lower means generated", ylabel="part of the images", title="scores without recoding")
    right.legend(frameon=False)
    return png(figure)
