"""The curves are those of the traces, one line for each image."""

import pytest

from diffusion_guidance import CFG, RAAG, Trace, attach
from diffusion_guidance.play.curves import SHOWN, curves

from .small import PROMPT


def test_lines_are_the_values(shapes):
    traces = [Trace(error=True), Trace(error=True)]
    for callback, trace in zip([CFG(4.0), RAAG(5.0, 2.0)], traces, strict=True):
        with attach(shapes, [callback, trace]):
            shapes(PROMPT, num_inference_steps=3, max_sequence_length=1, guidance_scale=3.0)
    figure = curves(traces, ["left", "x" * 80])
    for panel, name in zip(figure.axes, SHOWN, strict=True):
        for line, trace in zip(panel.lines, traces, strict=True):
            assert list(line.get_xdata()) == [1, 2, 3]
            assert line.get_ydata() == pytest.approx(trace.to_dict()[name][:, 0], nan_ok=True)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["left", f"{'x' * 57}..."]
    assert list(figure.axes[1].lines[0].get_ydata()) == pytest.approx([4.0] * 3, rel=1e-3)
