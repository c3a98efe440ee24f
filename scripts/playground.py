"""The screenshot of the playground in docs/guides/playground.md: `python -m scripts.playground`; it needs Chromium."""

import io
import tempfile
from pathlib import Path

from PIL import Image

from diffusion_guidance.core.files import write_atomic
from tests.play.browser import browser, served
from tests.play.visit import Visit


TARGET = Path(__file__).parents[1] / "docs/playground.png"
WIDTH, HEIGHT = 1200, 2500
COLOURS = 160


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, served(Path(folder), "--steps", "5") as (url, _):
        with browser(WIDTH, HEIGHT) as driver:
            page = Visit(driver, url)
            page.type("prompt", "3d doughnut")
            if page.draw() != "done":
                raise SystemExit(page.text("#status"))
            driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
            page.wait(lambda: page.text("#python"))
            shot = Image.open(io.BytesIO(driver.get_screenshot_as_png()))
    small = shot.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    write_atomic(TARGET, lambda temporary: small.save(temporary, optimize=True))


if __name__ == "__main__":
    main()
