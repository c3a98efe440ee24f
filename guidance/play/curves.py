"""What guidance did in each step, of both images in one plot: ratio, weight and error."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.plots import canvas
from ..methods.trace import Trace


if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = {
    "ratio": "ratio ||cond - uncond|| / ||uncond||",
    "weight": "effective weight",
    "error": "error of the step before",
}
COLOURS = ("tab:blue", "tab:orange")


def curves(traces: Sequence[Trace], titles: Sequence[str]) -> "Figure":
    """One panel for each value over the steps, one line for each trace of one image. Missing values leave gaps."""
    figure = canvas(12, 3.2)
    panels = figure.subplots(1, len(SHOWN))
    for panel, (name, label) in zip(panels, SHOWN.items(), strict=True):
        for trace, title, colour in zip(traces, titles, COLOURS, strict=False):
            data = trace.to_dict()
            if name in data:
                values = data[name].reshape(len(data[name]), -1).nanmean(1)
                panel.plot(data["step"] + 1, values, ".-", color=colour, label=_short(title))
        panel.set(xlabel="step", title=label)
        panel.xaxis.get_major_locator().set_params(integer=True)
        panel.grid(alpha=0.3)
    handles, labels = panels[0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _short(title: str) -> str:
    return title if len(title) <= 60 else f"{title[:57]}..."
