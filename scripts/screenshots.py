"""The screenshots in docs: the site, the playground, a compared sheet and the reports of the detector.

Needs Chromium and its driver (apt-get install chromium chromium-driver), and three minutes on two cores:

    python -m scripts.screenshots
    python -m scripts.screenshots site playground
"""

import argparse
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageChops
from torchvision.utils import save_image

from diffusion_guidance.core.files import write_atomic
from diffusion_guidance.worlds.emoji_judge import EmojiJudge
from scripts.studies.rigid_sets import photographs
from tests.play.browser import browser, served
from tests.play.visit import Visit


ROOT = Path(__file__).parents[1]
COLOURS = 160
SCORED = 80  # images a side of the detector's reports
ENCODER = ("--encoder", "efficientnet_lite:lite0")


def site(folder: Path, driver: Any) -> None:
    """The first page as `make docs` builds it."""
    subprocess.run([sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", folder], cwd=ROOT, check=True)
    driver.get((folder / "index.html").as_uri())


def playground(folder: Path, driver: Any) -> Iterator[None]:
    """One prompt in five steps by the two methods that the page begins with."""
    with served(folder, "--steps", "5") as (url, _):
        page = Visit(driver, url)
        page.type("prompt", "3d doughnut")
        if page.draw() != "done":
            raise SystemExit(page.text("#status"))
        driver.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
        page.wait(lambda: page.text("#python"))
        yield


def sheet(folder: Path, driver: Any) -> None:
    """The page of `generate --compare`, for the first four captions of the judge."""
    captions = EmojiJudge.load_config(ROOT / "assets/emoji-judge")["captions"][:4]
    methods = ("cfg:weight=1", "cfg:weight=3", "raag:w_max=10,alpha=8")
    call = ["generate", "assets/emoji", "--steps", "10", "--seeds", "0", "--call", "max_sequence_length=1"]
    call += [part for caption in captions for part in ("--prompt", caption)]
    ran(folder, [*call, *(part for method in methods for part in ("--compare", method)), "--out", "."])
    driver.get(next(folder.glob("*.html")).as_uri())


def detector(folder: Path, driver: Any) -> None:
    """The report of `detect measure`: photographs against textures with the same spectrum."""
    sides(folder)
    ran(folder, ["detect", "measure", "real", "generated", *ENCODER, "--out", "measured"])
    driver.get((folder / "measured/report.html").as_uri())


def scores(folder: Path, driver: Any) -> None:
    """The page of `detect score` of both sides, calibrated on other photographs."""
    sides(folder)
    written(folder / "others", photographs("train", 2 * SCORED, ROOT / "assets")["real"])
    ran(folder, ["detect", "calibrate", "others", *ENCODER, "--out", "detector.json"])
    given = ["--calibration", "detector.json", "--out", "scores.csv", "--html", "scores.html"]
    ran(folder, ["detect", "score", "real", "generated", *ENCODER, *given])
    driver.get((folder / "scores.html").as_uri())


def sides(folder: Path) -> None:
    """Write folders of real and of generated images."""
    found = photographs("test", SCORED, ROOT / "assets")
    written(folder / "real", found["real"])
    written(folder / "generated", found["texture"])


def written(folder: Path, images: torch.Tensor) -> None:
    folder.mkdir()
    for index, image in enumerate(images):
        save_image(image, folder / f"{index:03}.png")


def ran(folder: Path, arguments: list[str]) -> None:
    subprocess.run([sys.executable, "-m", "diffusion_guidance", *arguments], cwd=folder, check=True)


def taken(driver: Any) -> Image.Image:
    """What the window shows, without the empty rows below."""
    shot = Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")
    _, _, _, bottom = ImageChops.difference(shot, Image.new("RGB", shot.size, "white")).getbbox() or (0, 0, *shot.size)
    return shot.crop((0, 0, shot.width, min(bottom + 20, shot.height)))


#: name -> what opens it, and the size of the window
SHOTS: dict[str, tuple[Callable, int, int]] = {
    "site": (site, 1280, 900),
    "playground": (playground, 1200, 2180),
    "sheet": (sheet, 1000, 1000),
    "detector": (detector, 1000, 1400),
    "scores": (scores, 1000, 1000),
}


@contextmanager
def opened(show: Callable, folder: Path, driver: Any) -> Iterator[None]:
    if (result := show(folder, driver)) is None:
        yield
    else:
        yield from result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=SHOTS, default=list(SHOTS), help="default: all")
    for name in parser.parse_args().names:
        show, width, height = SHOTS[name]
        with (
            tempfile.TemporaryDirectory() as folder,
            browser(width, height) as driver,
            opened(show, Path(folder), driver),
        ):
            shot = taken(driver)
        small = shot.quantize(COLOURS, dither=Image.Dither.NONE)
        target = ROOT / "docs/screenshots" / f"{name}.png"
        target.parent.mkdir(exist_ok=True)
        write_atomic(target, lambda temporary, small=small: small.save(temporary, optimize=True))
        print(f"wrote {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
