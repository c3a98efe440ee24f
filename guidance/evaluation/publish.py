"""Publish a measurement in its folder: report, table, sheet of samples, curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ..core.files import write_atomic
from .effective import FIELD
from .metrics.registry import LABELS
from .report import LOWER_IS_BETTER, contact_sheet, curve_plot, describe_run, markdown_table, pareto_plot, write_report
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
        facts: of the run, JSON-serialisable, in addition to what `describe_run` gives.
        reference: what the rows were compared with; its digest goes to the report.

    Returns:
        What report.md holds: the table, then every warning, a line each.
    """
    side = reference and {"sha256": reference.digest, "samples": reference.count}
    meta = describe_run(samples=rows[0]["samples"], reference=side, **facts)
    write_report(folder / "report.json", meta, rows)
    columns = list(dict.fromkeys(name for row in rows for name in row if not name.endswith(("_interval", "_warning"))))
    warnings = dict.fromkeys(f"{k}: {v}\n" for row in rows for k, v in row.items() if k.endswith("_warning"))
    text = "\n".join([markdown_table(rows, columns), *warnings])
    write_atomic(folder / "report.md", lambda temporary: temporary.write_text(text, encoding="utf-8"))
    if images is not None:
        contact_sheet(folder / "samples.png", images)
    return text


def publish_curves(folder: Path, rows: Sequence[Mapping], lines: Sequence[str]) -> list[Path]:
    """Draw VALUE.png over the weight for every measured value, and pareto.png of the first of each direction.

    Only what the rows have: no curve without a `weight`, no Pareto plot of a single value.

    Args:
        lines: the label of the line that each row belongs to; rows of other settings must have other labels.
    """
    rows = [{**row, "line": line} for row, line in zip(rows, lines, strict=True)]
    values = [name for name in rows[0] if name != FIELD and (name in LABELS or f"{name}_interval" in rows[0])]
    weighted = any("weight" in row for row in rows)
    paths = [curve_plot(folder / f"{name}.png", rows, y=name, group="line") for name in values if weighted]
    cost, gain = ([name for name in values if (name in LOWER_IS_BETTER) == lower] for lower in (True, False))
    if cost and gain:
        paths.append(pareto_plot(folder / "pareto.png", rows, cost[0], gain[0], group="line"))
    return paths
