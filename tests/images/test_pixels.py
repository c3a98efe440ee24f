"""Every odd file means what it was made from, and evaluation and detection see the same pixels of each file."""

import warnings
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image

from diffusion_guidance.detection.scoring import load
from diffusion_guidance.evaluation import ImageSet
from diffusion_guidance.images.listing import SUFFIXES
from diffusion_guidance.images.reading import DecodedImage, Skipped, read_image

from .mutations import mutations
from .odd import odd_files, whole_files


ODD = odd_files()
ROUNDED = ("u32.tif", "rgb-associated.tif")


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_means_what_it_was_made_from(tmp_path, name):
    data, expected = ODD[name]
    (tmp_path / name).write_bytes(data)
    found = read_image(tmp_path / name)
    if expected is None:
        assert "no known white" in found.reason
    elif name == "grey-associated.tif" and int(PIL.__version__.split(".")[0]) < 13:
        assert found.reason == "not an image in a known format"
    else:
        assert isinstance(found, DecodedImage), found
        assert np.abs(found.pixels.permute(1, 2, 0).numpy().astype(int) - expected).max() <= (name in ROUNDED)


class Keeping:
    """In the place of a detector: it keeps what it is given."""

    def prepare(self, images):
        return images, torch.zeros(len(images), dtype=torch.int64)


def test_evaluation_and_detection_see_the_same_pixels(tmp_path):
    """Of every odd file and of 600 damaged ones; what one cannot read, the other cannot, for the same reason."""
    files = {name: data for name, (data, _) in ODD.items()} | whole_files() | dict(mutations(600, seed=2))
    assert len(files) > 600 + len(ODD) + 50
    read = refused = blank = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about damaged files
        for number, (name, data) in enumerate(files.items()):
            folder = tmp_path / str(number)
            folder.mkdir()
            path = folder / (name if Path(name).suffix in SUFFIXES else f"{name}.png")  # evaluation goes by names too
            path.write_bytes(data)
            row, prepared = load(Keeping(), str(path))
            try:
                listed = ImageSet(folder)
            except ValueError as error:
                assert row["error"] in str(error)
                refused += 1
                continue
            pixels = listed.read([0])
            read += 1
            if listed.notes["blank"]:
                assert row["error"] == "blank: every pixel has the same colour" and prepared is None
                assert (pixels == pixels[..., :1, :1]).all()
                blank += 1
            else:
                assert torch.equal(prepared[0], pixels)
                assert (row["height"], row["width"]) == tuple(pixels.shape[2:])
    assert read > 200 and refused > 200 and blank > 1, (read, refused, blank)


def test_a_blank_image(tmp_path):
    for name, image in {
        "white.png": Image.new("RGB", (9, 5), "white"),
        "clear.png": Image.new("RGBA", (9, 5), (1, 2, 3, 0)),
        "grey.jpg": Image.new("L", (16, 16), 77),
    }.items():
        image.save(tmp_path / name)
        assert read_image(tmp_path / name).blank
    image = Image.new("RGB", (9, 5), "white")
    image.putpixel((8, 4), (255, 255, 254))
    image.save(tmp_path / "x.png")
    assert not read_image(tmp_path / "x.png").blank
    assert isinstance(read_image(tmp_path / "missing.png"), Skipped)
