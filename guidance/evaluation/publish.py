"""What a measurement leaves in its folder: report, table, sheet of samples, curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..core.files import write_atomic
from .report import contact_sheet, curve_plot, describe_run, markdown_table, pareto_plot, write_report
from .sources import Reference


def publish(
    folder: Path,
    rows: Sequence[Mapping],
    facts: Mapping,
    reference: Reference | None = None,
    images: torch.Tensor | None = None,
) -> str:
    """Write report.json, report.md and, with `images` (B, C, H, W) in [0, 1], samples.png to `folder`.

    Args:
        facts: of the run, JSON-serialisable, beside what `describe_run` tells.
        reference: what the rows were compared with; its digest goes to the report.

    Returns:
        The table, then every warning of a figure, a line each.
    """
    side = reference and {"sha256": reference.digest, "samples": reference.count}
    meta = describe_run(samples=rows[0]["samples"], reference=side, **facts)
    write_report(folder / "report.json", meta, rows)
    columns = list(dict.fromkeys(name for row in rows for name in row if not name.endswith(("_interval", "_warning"))))
    table = markdown_table(rows, columns)
    write_atomic(folder / "report.md", lambda temporary: temporary.write_text(table, encoding="utf-8"))
    if images is not None:
        contact_sheet(folder / "samples.png", images)
    warnings = dict.fromkeys(f"{k}: {v}" for row in rows for k, v in row.items() if k.endswith("_warning"))
    return "\n".join([table, *warnings])


def publish_curves(folder: Path, rows: Sequence[Mapping]) -> list[Path]:
    """Draw FIGURE.png over the weight, and pareto.png, a line for each `method` and number of `steps`.

    Only what the rows have: no curve without a `weight`, no Pareto plot of a single figure.
    """
    lines = [{**row, "method": f"{row['method']}, {row['steps']} steps"} for row in rows]
    figures = [name for name in ("frechet", "alignment", "accuracy", "kid", "clip_score") if name in rows[0]]
    weighted = any("weight" in row for row in rows)
    paths = [curve_plot(folder / f"{name}.png", lines, y=name) for name in figures if weighted]
    return paths + ([pareto_plot(folder / "pareto.png", lines, *figures[:2])] if len(figures) > 1 else [])
