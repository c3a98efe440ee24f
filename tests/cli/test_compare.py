"""`generate --compare`: what is on the sheet and the page is what the methods draw alone."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from diffusion_guidance.cli.command import main

from ..tiny import tiny_dit


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dit")
    tiny_dit().save_pretrained(folder)
    return folder


@pytest.fixture
def generate(checkpoint, tmp_path, capsys):
    def run(*arguments, out="out"):
        call = [checkpoint, "--classes", "1,2", "--seeds", "3,5", "--steps", 2, *arguments, "--out", tmp_path / out]
        code = main(["generate", *map(str, call)])
        return (code, *capsys.readouterr(), tmp_path / out)

    return run


def test_the_page_has_the_images_that_each_method_draws_alone(generate):
    code, out, err, folder = generate("--compare", "none", "--compare", "cfg:weight=3", "--batch-size", 4)
    assert code == 0, err
    assert "compare.png" in out and "compare.html" in out
    assert {path.name for path in folder.iterdir()} == {"compare.png", "compare.html", "settings.json"}
    page = (folder / "compare.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:)", page), "nothing is fetched"
    found = [base64.b64decode(data) for data in re.findall(r"base64,([^\"]+)", page)]
    for row, guidance in enumerate(([], ["--guidance", "cfg:weight=3"])):
        assert generate(*guidance, "--batch-size", 4, out=f"alone-{row}")[0] == 0
        for column, name in enumerate(("000/000003", "000/000005", "001/000003", "001/000005")):
            alone = np.asarray(Image.open(folder.parent / f"alone-{row}" / f"{name}.png"))
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(found[4 * row + column]))), alone)
    assert page.count("seed 3") == page.count("seed 5") == 4 and page.count("class 1") > 0
    assert page.count("weight 3.00") == 4, "of the second row only: the first is the pipeline's own"
    assert page.count("2 evaluations") == 2


def test_the_sheet_holds_each_image_enlarged_by_whole_pixels(generate):
    _, _, err, folder = generate("--compare", "cfg:weight=3", "--compare", "cfg:weight=1")
    sheet = np.asarray(Image.open(folder / "compare.png").convert("RGB"))
    page = (folder / "compare.html").read_text(encoding="utf-8")
    for data in re.findall(r"base64,([^\"]+)", page):
        tile = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        factor = -(-144 // tile.shape[0])
        large = tile.repeat(factor, 0).repeat(factor, 1)
        size = large.shape[0]
        rows, columns = np.where((sheet[: -size + 1, : -size + 1] == large[0, 0]).all(-1))
        places = zip(rows, columns, strict=True)
        assert any(np.array_equal(sheet[y : y + size, x : x + size], large) for y, x in places), err


def test_what_cannot_be_a_sheet_is_a_sentence(generate):
    code, _, err, _ = generate("--compare", "cfg:weight=3", "--guidance", "cfg")
    assert code == 2 and "--compare has the guidance of each row" in err
    code, _, err, _ = generate("--compare", "cfg", "--compare", "cfg")
    assert code == 2 and "--compare cfg is there twice" in err
