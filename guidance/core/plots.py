"""A plot that notebooks show. matplotlib is loaded when one is drawn."""

import io
from functools import cache
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from matplotlib.figure import Figure


DPI = 150


def canvas(width: float = 6.4, height: float = 4.4) -> "Figure":
    """An empty plot of this size in inches, without pyplot's global state."""
    return _shown()(figsize=(width, height), layout="constrained")


@cache
def _shown() -> Any:
    from matplotlib.figure import Figure  # lazy: slow to import

    class Shown(Figure):
        def _repr_png_(self) -> bytes:
            stream = io.BytesIO()
            self.savefig(stream, dpi=DPI, format="png")
            return stream.getvalue()

    return Shown
