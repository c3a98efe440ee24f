"""Results as files: JSON with all that is needed to repeat them, markdown tables, curves, and sheets of samples.

A report is `{"meta": {...}, "rows": [{...}, ...]}`. The fields of a row that have a fixed meaning: `method`, `weight`,
`effective_weight`, `w_max`, `alpha`, `iterations`, `step_size`, `steps`, `nfe`, `samples`, `frechet`, `alignment`,
`accuracy`, `precision`, `recall`, `auroc`, `time_ratio`. `X_interval` is the pair of ends of the interval of `X`.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core.files import write_atomic, write_json
from ..core.json_files import read_json
from ..core.plots import canvas, colors, logarithmic, write_plot
from .effective import FIELD
from .identity import versions
from .metrics import registry as metrics


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Values of which lower is better; of all others higher is.
LOWER_IS_BETTER = metrics.LOWER_IS_BETTER | {"steps", "nfe", "time_ratio"}
_AXES = metrics.LABELS | {
    "weight": "guidance weight",
    FIELD: "effective weight",
    "nfe": "network evaluations",
    "time_ratio": "time, relative",
}


def write_report(path: str | os.PathLike, meta: Mapping, rows: Sequence[Mapping]) -> Path:
    """Write `{"meta": meta, "rows": rows}` to the JSON file `path`, atomically.

    Raises:
        ValueError: a number is NaN or infinite; leave a value out, or give None, where there is none.
    """
    return write_json(path, {"meta": dict(meta), "rows": [dict(row) for row in rows]})


def read_report(path: str | os.PathLike) -> tuple[dict, list[dict]]:
    """(meta, rows) of a report. Raises ValueError if `path` is not a report."""
    try:
        report = read_json(path)
        return report["meta"], report["rows"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"cannot read a report from {path}: {error!r}") from None


def describe_run(**facts: object) -> dict:
    """Meta data of this run: the command line, the commit, versions, then `facts` (samples, seeds, reference, ...).

    It holds no time and no host name, so the same run writes the same bytes.
    """
    return {"command": _command(), "commit": _commit(), "versions": versions()} | facts


def _command() -> str:
    """The command line of this process, as it is typed: `python -m MODULE`, the installed command, or a file."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if sys.argv[0].startswith("diffusion-guidance"):
        program = sys.argv[0].split()
    elif spec is not None:
        program = ["python", "-m", spec.name.removesuffix(".__main__")]
    else:
        program = ["python", os.path.relpath(sys.argv[0])]
    return shlex.join([*program, *sys.argv[1:]])


def _commit() -> str | None:
    """The commit of the source, with "-dirty" if tracked files were changed; None outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    try:
        result = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return result.stdout.strip()


def markdown_table(rows: Iterable[Mapping], columns: Sequence[str] | Mapping[str, str], digits: int = 4) -> str:
    """A markdown table with one line per row, ending in a newline; values show their interval, or quartiles, if any.

    Args:
        columns: the fields to show, in order; or field -> heading.
        digits: significant digits of numbers that are not whole.
    """
    headings = columns if isinstance(columns, Mapping) else {name: name.replace("_", " ") for name in columns}

    def text(value: object) -> str:
        if value is None:
            return "-"
        return f"{value:.{digits}g}" if isinstance(value, float) else str(value).replace("|", "\\|")

    def cell(row: Mapping, name: str) -> str:
        interval = row.get(f"{name}_interval") or row.get(f"{name}_quartiles")
        ends = f" [{', '.join(text(end) for end in interval)}]" if interval else ""
        return text(row.get(name)) + ends

    lines = [list(headings.values()), ["---"] * len(headings)]
    lines += [[cell(row, name) for name in headings] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def replace_table(path: str | os.PathLike, name: str, table: str) -> Path:
    """Put `table` between the marks `<!-- NAME -->` and `<!-- end -->` of the document `path`.

    Raises:
        ValueError: the document has no such place, or more than one.
    """
    text, count = re.subn(
        rf"(<!-- {name} -->\n).*?(<!-- end -->)",
        lambda mark: mark[1] + table + mark[2],
        Path(path).read_text(encoding="utf-8"),
        flags=re.S,
    )
    if count != 1:
        raise ValueError(f"{path} has no place for the table {name!r}: <!-- {name} --> ... <!-- end -->")
    return write_atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def pareto_front(rows: Sequence[Mapping], x: str = "frechet", y: str = "alignment") -> list[Mapping]:
    """The rows that no other row beats in one of the two values without losing in the other, ordered by x."""

    def cost(row: Mapping) -> tuple[float, float]:
        return tuple(row[name] if name in LOWER_IS_BETTER else -row[name] for name in (x, y))

    front: list[Mapping] = []
    for row in sorted(_having(rows, x, y), key=cost):
        if not front or cost(row)[1] < cost(front[-1])[1]:
            front.append(row)
    return front


def pareto_plot(
    path: str | os.PathLike,
    rows: Sequence[Mapping],
    x: str = "frechet",
    y: str = "alignment",
    group: str = "method",
    label: str | None = "weight",
    title: str | None = None,
) -> Path:
    """Draw `y` against `x`, a line for each `group` in the order of its rows, points marked by `label`.

    The Pareto front over all groups is drawn behind them. Rows without one of the two are left out. The axis of `x` is
    logarithmic where one row dwarfs the rest.

    Raises:
        ValueError: no row has both.
    """
    figure, axes = _draw(rows, x, y, group, title)
    front = pareto_front(rows, x, y)
    values = [row[x] for row in _having(rows, x, y)]
    if 0 < 4 * min(values) < max(values):
        logarithmic(axes, "x")
    axes.plot([row[x] for row in front], [row[y] for row in front], color="0.8", linewidth=7, zorder=0, label="front")
    if label is not None:
        for row in _having(rows, x, y, label):
            place: dict[str, Any] = {"xytext": (4, 4), "textcoords": "offset points", "fontsize": 7}
            axes.annotate(f"{row[label]:g}" if isinstance(row[label], float) else row[label], (row[x], row[y]), **place)
    axes.legend(frameon=False)
    return write_plot(path, figure)


def curve_plot(
    path: str | os.PathLike,
    rows: Sequence[Mapping],
    x: str = "weight",
    y: str = "frechet",
    group: str = "method",
    title: str | None = None,
) -> Path:
    """Draw `y` over the setting `x`, a line for each `group`, with intervals where rows have them.

    The best row has a ring, if `y` is known to be better small or large. The axis of a `y` that is better small is
    logarithmic where one row dwarfs the rest.

    Raises:
        ValueError: no row has both.
    """
    figure, axes = _draw(sorted(_having(rows, x, y), key=lambda row: row[x]), x, y, group, title)
    known = [(row[y], row[x]) for row in _having(rows, x, y)]
    if y in LOWER_IS_BETTER and 0 < 4 * min(known)[0] < max(known)[0]:
        logarithmic(axes, "y")
    if y in metrics.LABELS:
        value, place = min(known) if y in LOWER_IS_BETTER else max(known)
        axes.plot(place, value, "o", markersize=11, fillstyle="none", color="0.3", label="best", zorder=3)
    axes.legend(frameon=False)
    return write_plot(path, figure)


def contact_sheet(path: str | os.PathLike, images: torch.Tensor, columns: int = 8, scale: int = 1) -> Path:
    """Write images (B, 3, H, W) in [0, 1] as one PNG, `columns` a row, each pixel enlarged `scale` times."""
    from torchvision.utils import save_image  # lazy: slow to import

    images = images.detach().float().cpu().clamp(0, 1).repeat_interleave(scale, -1).repeat_interleave(scale, -2)
    return write_atomic(path, lambda temporary: save_image(images, temporary, nrow=columns))


def _having(rows: Iterable[Mapping], *names: str) -> list[Mapping]:
    return [row for row in rows if all(row.get(name) is not None for name in names)]


def _draw(rows: Sequence[Mapping], x: str, y: str, group: str, title: str | None) -> "tuple[Figure, Axes]":
    rows = _having(rows, x, y)
    if not rows:
        raise ValueError(f"nothing to draw: no row has both {x} and {y}")
    figure = canvas()
    axes = figure.subplots()
    for name, color in colors(str(row.get(group)) for row in rows).items():
        part = [row for row in rows if str(row.get(group)) == name]
        points = [row[x] for row in part], [row[y] for row in part]
        (line,) = axes.plot(*points, marker="o", label=name, markersize=4, color=color)
        for row in _having(part, f"{y}_interval"):
            axes.vlines(row[x], *row[f"{y}_interval"], color=line.get_color(), alpha=0.5)
    axes.set(xlabel=_AXES.get(x, x.replace("_", " ")), ylabel=_AXES.get(y, y.replace("_", " ")), title=title)
    axes.grid(alpha=0.3)
    return figure, axes
