"""One style: colours by method, and axes that can be read."""

import pytest

from diffusion_guidance.core.plots import COLORS, canvas, colors, logarithmic, panels, png, write_plot


def test_a_method_has_its_colour_whatever_else_is_drawn():
    assert colors(["CFG", "RAAG"]) == {"CFG": COLORS["cfg"], "RAAG": COLORS["raag"]}
    found = colors(["RAAG, 5 steps", "raag", "none", "RAAG + DiffIER"])
    assert found["raag"] == COLORS["raag"] and len(set(found.values())) == 4
    assert colors(["cfg w=3"]) == {"cfg w=3": COLORS["cfg"]}  # nobody else has it


def test_more_names_than_colours_still_have_one_each():
    assert len(colors(map(str, range(40)))) == 40


@pytest.mark.parametrize("name", ["x", "y"])
def test_a_logarithmic_axis_has_plain_numbers(name):
    figure = canvas()
    axes = figure.subplots()
    axes.plot([0.05, 40.0], [0.05, 40.0])
    logarithmic(axes, name)
    png(figure)
    texts = [label.get_text() for label in getattr(axes, f"get_{name}ticklabels")()]
    assert {"0.1", "0.2", "0.5", "1", "2", "5", "10"} <= set(texts)


def test_panels_stand_next_to_each_other_and_are_written_at_once(tmp_path):
    figure, places = panels(3, 2.0, 1.5, shared=True)
    assert len(places) == 3 and figure.get_size_inches().tolist() == [6.0, 1.5]
    first = write_plot(tmp_path / "a.png", figure).read_bytes()
    assert first[1:4] == b"PNG" and png(figure)[1:4] == b"PNG"
    with pytest.raises(ValueError, match="nosuch"):
        write_plot(tmp_path / "a.nosuch", figure)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
