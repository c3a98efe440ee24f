"""The page's inputs reach the drawing in their order, and its history brings them back."""

from types import SimpleNamespace

import pytest

from diffusion_guidance.cli.play import explain
from diffusion_guidance.play.fields import methods
from diffusion_guidance.play.session import Column, Shown, Studio

from .small import PROMPT, SHAPES


page = pytest.importorskip("diffusion_guidance.play.page", reason="pip install 'diffusion-guidance[play]'")


@pytest.fixture(scope="module")
def studio(shapes, tmp_path_factory):
    offered = methods({"cfg": {"weight": 5.0}})
    return Studio(shapes, SHAPES, offered, explain, 3.0, folder=tmp_path_factory.mktemp("play"))


@pytest.fixture(scope="module")
def built(studio):
    return page.build_page(studio, ["cfg", "raag"], 4, [PROMPT])


def function(built, name):
    return next(each for each in built.fns.values() if each.name == name)


def test_values_of_the_page_are_read_in_its_order(studio, built):
    drawing = function(built, "function")
    values = [component.value for component in drawing.inputs[1:]]
    *shared, columns = page.read(studio, values)
    assert shared == [PROMPT, 0, 4, 3.0]
    assert columns == [Column("cfg", [5.0, 0.0, "", 0.0, 1.0]), Column("raag", [18.0, 12.0, 0.0, 1.0])]
    position = [each.elem_id for each in drawing.inputs[1:]].index("b-raag-alpha")
    values[position] = 2.0
    assert page.read(studio, values)[-1][1].values == [18.0, 2.0, 0.0, 1.0]


def test_every_setting_is_a_component_of_its_own(studio, built):
    names = [each.elem_id for each in function(built, "function").inputs[1:]]
    assert len(set(names)) == len(names)
    assert {f"a-{method}-{each.name}" for method, fields in studio.methods.items() for each in fields} <= set(names)


def test_history_brings_back_settings_and_images(built):
    drawing, back = function(built, "function"), function(built, "_back")
    assert back.outputs == [*drawing.inputs[1:], *drawing.outputs[:-2]]
    shown = Shown(status="done", images=("a.png", "b.png"), python="p", command="c")
    found = back.fn([([1, 2], Shown()), ([3, 4], shown)], SimpleNamespace(index=1))
    assert found[:2] == [3, 4] and found[3:5] == ["a.png", "b.png"] and found[-2:] == ["p", "c"]


def test_drawing_adds_to_the_history_once(studio, built):
    drawing = function(built, "function")
    values = [component.value for component in drawing.inputs[1:]]
    found = list(drawing.fn([], *values))
    assert len(found) == 1 + 2 * 5 + 1
    assert all(each[-1] == page.gr.skip() for each in found[:-1])
    assert len(found[-1][-2]) == 1 and found[-1][-2][0][0] == values


def test_what_is_written_stays_text(built):
    (status, *_) = page._outputs(Shown(status="got '<img src=x onerror=alert(1)>'", failed=True))
    assert "<img" not in status and 'role="alert"' in status


def test_it_calls_nobody_and_two_draw_at_once(built):
    assert built.analytics_enabled is False
    assert function(built, "function").concurrency_limit == 2
