"""The playground in a browser, from its start to a copied program, on the shipped shapes."""

import io
import urllib.request

import pytest
from PIL import Image

from diffusion_guidance import APG, CFG, RAAG
from diffusion_guidance.play.drawing import draw
from diffusion_guidance.worlds.shapes_measure import caption

from .browser import CHROMIUM, DRIVER, MISSING, browser, served
from .small import request


pytest.importorskip("gradio", reason="pip install 'diffusion-guidance[play]'")
pytest.importorskip("selenium", reason="pip install 'diffusion-guidance[test]'")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=MISSING)]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    begin = ["--compare", "cfg:weight=4", "--compare", "raag:w_max=5,alpha=2"]
    with served(tmp_path_factory.mktemp("served"), "assets/shapes", "--steps", 3, "--device", "cpu", *begin) as found:
        yield found


@pytest.fixture(scope="module")
def driver():
    with browser() as found:
        yield found


@pytest.fixture
def page(server, driver):
    from .visit import Visit

    return Visit(driver, server[0])


def expected(shapes, guidance, **other):
    drawn = draw(shapes, request(guidance=guidance, condition=caption(0), **other))
    return [each.image.tobytes() for each in drawn if each.trace is not None]


def images(page):
    files = [urllib.request.urlopen(page.source(f"image-{name}")).read() for name in "ab"]
    return [Image.open(io.BytesIO(file)).tobytes() for file in files]


def test_it_opens_without_a_network(page, server):
    assert page.text("#draw") == "Draw" and page.hosts() == {server[0].split("/")[2]}
    assert [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert "reached for" not in server[1].read_text()


def test_draw_change_a_slider_and_draw_again(page, shapes):
    assert page.draw() == "done"
    assert images(page) == expected(shapes, [[CFG(4.0)], [RAAG(5.0, 2.0)]])
    assert page.text("#caption-a") == "3 evaluations"
    assert page.natural("plot")[0] > 1000
    page.press("a-cfg-weight", "ARROW_RIGHT", 100)
    assert page.draw() == "done"
    assert "CFG(weight=5.0)" in page.text("#python") and "cfg:weight=5.0" in page.text("#command")
    assert images(page) == expected(shapes, [[CFG(5.0)], [RAAG(5.0, 2.0)]])


def test_compare_another_method_and_go_back(page, shapes):
    assert page.draw() == "done"
    assert page.shown("b-raag-alpha") and not page.shown("b-apg-eta")
    page.choose("method-b", "apg")
    assert page.shown("b-apg-eta") and not page.shown("b-raag-alpha")
    assert page.draw() == "done"
    assert images(page) == expected(shapes, [[CFG(4.0)], [APG()]])
    page.click("#history button[aria-label='Thumbnail 2 of 2']")
    page.wait(lambda: page.shown("b-raag-alpha") and "RAAG(" in page.text("#python") and page.natural("image-b"))
    assert images(page) == expected(shapes, [[CFG(4.0)], [RAAG(5.0, 2.0)]])


def test_copy_the_program(page, shapes, tmp_path, monkeypatch):
    assert page.draw() == "done"
    program = page.copied("#python")
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    shown = images(page)
    assert [Image.open(f"{name}.png").tobytes() for name in "ab"] == shown
    assert page.copied("#command").startswith("diffusion-guidance generate assets/shapes --prompt")


def test_a_bad_setting_is_a_sentence_and_the_next_is_drawn(page):
    page.press("a-cfg-stop", "HOME")
    page.press("a-cfg-start", "END")
    sentence = "left: start and stop are fractions with 0 <= start <= stop <= 1, got 1.0 and 0.0"
    assert page.draw() == sentence and page.shown("draw")
    page.press("a-cfg-stop", "END")
    assert page.draw() == "done"


def test_two_at_once(page, server, shapes):
    from .visit import Visit

    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    try:
        other = Visit(page.driver, server[0])
        other.press("steps", "ARROW_RIGHT", 9)
        other.press("b-raag-alpha", "ARROW_RIGHT", 100)
        other.click("#draw")
        second = page.driver.current_window_handle
        page.driver.switch_to.window(first)
        assert page.draw() == "done"
        mine = images(page)
        page.driver.switch_to.window(second)
        assert other.finished() == "done"
        theirs = images(other)
        page.driver.close()
    finally:
        page.driver.switch_to.window(first)
    assert mine == expected(shapes, [[CFG(4.0)], [RAAG(5.0, 2.0)]])
    assert theirs == expected(shapes, [[CFG(4.0)], [RAAG(5.0, 3.0)]], steps=12)
