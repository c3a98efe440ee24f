"""One style for all plots, which notebooks show too. matplotlib is loaded when one is drawn."""

import io
import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import write_atomic


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


DPI = 150
#: A method has one colour in every plot. Names are compared from their start, in lower case; others take the next ones.
COLORS = {"cfg": "C0", "raag": "C1", "diffier": "C2", "elucd": "C3"}
LINES = ("-", "--", ":", "-.")  # for what else tells curves of a method apart: steps, or a setting
_OTHERS = ("C4", "C5", "C6", "C8", "C9", "C7", "black", "C2", "C3")


def canvas(width: float = 6.4, height: float = 4.4) -> "Figure":
    """An empty plot of this size in inches, without pyplot's global state."""
    return _shown()(figsize=(width, height), layout="constrained")


def panels(count: int, width: float, height: float, shared: bool = False) -> "tuple[Figure, list[Axes]]":
    """A plot of `count` axes next to each other, each of this size in inches; `shared` ones have one range."""
    figure = canvas(width * count, height)
    return figure, list(figure.subplots(1, count, squeeze=False, sharex=shared, sharey=shared)[0])


def write_plot(path: str | os.PathLike, figure: "Figure") -> Path:
    """Write it as PNG, PDF or SVG, at once or not at all."""
    return write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=DPI))


def png(figure: "Figure") -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, dpi=DPI, format="png")
    return stream.getvalue()


def colors(names: Iterable[str]) -> dict[str, str]:
    """A colour for each name: that of its method if it is the name, or begins it and no other name has it."""
    names = list(dict.fromkeys(names))
    found = {name: COLORS[name.lower()] for name in names if name.lower() in COLORS}
    for name in names:
        color = next((color for method, color in COLORS.items() if name.lower().startswith(method)), None)
        if name not in found and color is not None and color not in found.values():
            found[name] = color
    rest = (color for color in _OTHERS * len(names) if color not in found.values())
    return {name: found[name] if name in found else next(rest) for name in names}


def logarithmic(axes: "Axes", name: str) -> None:
    """Make the axis `name`, "x" or "y", logarithmic, with plain numbers at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axes, f"set_{name}scale")("log")
    axis = getattr(axes, f"{name}axis")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


@cache
def _shown() -> Any:
    from matplotlib.figure import Figure  # lazy: slow to import

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            return png(self)

    return Shown
