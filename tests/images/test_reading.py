"""Reading an image file: each kind against what was put in, and 500 damaged files."""

import io
import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from diffusion_guidance.images.reading import FORMATS, ORIENTATION, DecodedImage, Skipped, _formats, read_image

from .mutations import mutations
from .odd import bomb


@pytest.fixture
def colours() -> np.ndarray:
    """(6, 10, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)


def read(path) -> tuple[np.ndarray, DecodedImage]:
    found = read_image(path)
    assert isinstance(found, DecodedImage), found
    assert found.pixels.dtype == torch.uint8
    assert found.pixels.is_contiguous()
    return found.pixels.permute(1, 2, 0).numpy(), found


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "ppm", "qoi"])
def test_lossless_formats(tmp_path, colours, suffix):
    Image.fromarray(colours).save(tmp_path / f"x.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    pixels, found = read(tmp_path / f"x.{suffix}")
    assert (pixels == colours).all()
    assert found.format.lower() == suffix
    assert found.notes == ()


@pytest.mark.parametrize("suffix", ["jpg", "avif", "jp2"])
def test_lossy_formats(tmp_path, suffix):
    Image.new("RGB", (16, 8), (200, 100, 50)).save(tmp_path / f"x.{suffix}", quality=95)
    assert np.abs(read(tmp_path / f"x.{suffix}")[0].astype(int) - (200, 100, 50)).max() <= 4


def test_a_wrong_extension_is_read_and_noted(tmp_path, colours):
    Image.fromarray(colours).save(tmp_path / "x.png")
    (tmp_path / "x.png").rename(tmp_path / "x.jpg")
    pixels, found = read(tmp_path / "x.jpg")
    assert (pixels == colours).all()
    assert found.notes == ("PNG named .jpg",)
    (tmp_path / "x.jpg").rename(tmp_path / "x")
    assert read(tmp_path / "x")[1].notes == ()  # no extension says nothing wrong


def test_grey_and_bilevel(tmp_path, colours):
    Image.fromarray(colours[..., 0]).save(tmp_path / "x.png")
    assert (read(tmp_path / "x.png")[0] == colours[..., :1]).all()
    bits = colours[..., 0] > 127
    Image.fromarray(bits).save(tmp_path / "y.png")
    assert (read(tmp_path / "y.png")[0] == 255 * bits[..., None]).all()


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_16_bit_grey_is_scaled(tmp_path, suffix):
    values = np.array([[0, 257, 256 * 128, 65535, 129, 128]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"x.{suffix}")
    pixels, found = read(tmp_path / f"x.{suffix}")
    assert (pixels == np.rint(values / 257.0)[..., None]).all()
    assert found.notes == ("16 bits",)


def test_floats_of_a_known_range(tmp_path):
    for name, values in {"in": [[0, 0.5, 1]], "out": [[0, 0.5, 255]], "nan": [[0, np.nan, 1]]}.items():
        Image.fromarray(np.array(values, dtype=np.float32)).save(tmp_path / f"{name}.tiff")
    assert read(tmp_path / "in.tiff")[0][0].tolist() == [[0] * 3, [128] * 3, [255] * 3]
    for name in ("out", "nan"):
        assert "no known white" in read_image(tmp_path / f"{name}.tiff").reason


def test_cmyk(tmp_path, colours):
    ink = Image.fromarray(colours).convert("CMYK")
    ink.save(tmp_path / "x.tiff")
    pixels, found = read(tmp_path / "x.tiff")
    assert (pixels == colours).all()  # inks without black: 255 - colour
    assert found.notes == ("CMYK without its profile",)


def test_transparency_is_laid_on_white(tmp_path, colours):
    alpha = np.full((6, 10, 1), 128, dtype=np.uint8)
    alpha[0], alpha[1] = 0, 255
    Image.fromarray(np.concatenate([colours, alpha], 2)).save(tmp_path / "x.png")
    pixels, found = read(tmp_path / "x.png")
    expected = colours * (alpha / 255) + 255 * (1 - alpha / 255)
    assert np.abs(pixels - expected).max() <= 1
    assert found.notes == ("transparent, on white",)
    alpha[:] = 255
    Image.fromarray(np.concatenate([colours, alpha], 2)).save(tmp_path / "y.png")
    pixels, found = read(tmp_path / "y.png")
    assert (pixels == colours).all()
    assert found.notes == ()


def test_a_palette_with_and_without_a_transparent_entry(tmp_path):
    image = Image.new("P", (4, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "x.png")
    assert read(tmp_path / "x.png")[0][0, :2].tolist() == [[0, 0, 0], [10, 20, 30]]
    image.save(tmp_path / "y.png", transparency=0)
    assert read(tmp_path / "y.png")[0][0, :2].tolist() == [[255, 255, 255], [10, 20, 30]]


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff", "avif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, suffix, orientation):
    corners = np.zeros((32, 64, 3), dtype=np.uint8)
    corners[:16, :32], corners[:16, 32:], corners[16:, :32] = (250, 0, 0), (0, 250, 0), (0, 0, 250)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(corners).save(tmp_path / f"x.{suffix}", exif=exif, quality=95)
    upright = Image.fromarray(corners)
    upright.getexif()[ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright)).astype(int)
    pixels, _ = read(tmp_path / f"x.{suffix}")
    assert pixels.shape == expected.shape
    assert np.abs(pixels[4::8, 4::8] - expected[4::8, 4::8]).max() < 30


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_exif_that_cannot_be_read(tmp_path, colours, monkeypatch):
    Image.fromarray(colours).save(tmp_path / "x.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    assert read(tmp_path / "x.jpg")[1].format == "JPEG"

    def fail(_):
        raise SyntaxError("not a TIFF file")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    assert read(tmp_path / "x.jpg")[1].notes == ("EXIF that cannot be read",)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff", "mpo"])
def test_the_first_frame_of_an_animation(tmp_path, suffix):
    red, blue = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (8, 8), (0, 0, 255))
    red.save(tmp_path / f"x.{suffix}", save_all=True, append_images=[blue])
    pixels, found = read(tmp_path / f"x.{suffix}")
    assert np.abs(pixels.astype(int) - (255, 0, 0)).max() < 5
    assert "first of several frames" in found.notes


def test_a_bomb_is_not_decoded(tmp_path, monkeypatch):
    (tmp_path / "bomb.png").write_bytes(bomb())  # above Pillow's own limit
    Image.new("1", (300, 200)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image.Image, "convert", None)
    assert "DecompressionBombError" in read_image(tmp_path / "bomb.png").reason
    assert read_image(tmp_path / "large.png", 59_999).reason == "300 x 200 pixels are more than the limit of 59999"


def test_what_is_no_image(tmp_path, monkeypatch):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "link").symlink_to("link")
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for a writer
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "EPS")  # would be handed to Ghostscript
    (tmp_path / "x.eps").write_bytes(buffer.getvalue())
    reasons = {path.name: read_image(path).reason for path in [*tmp_path.iterdir(), tmp_path, tmp_path / "missing"]}
    assert reasons == {
        "empty.png": "an empty file",
        "text.png": "not an image in a known format",
        "x.eps": "not an image in a known format",
        "link": "Too many levels of symbolic links",
        "pipe.png": "not a regular file",
        "missing": "No such file or directory",
        tmp_path.name: "a folder",
    }

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)  # permissions do not hold for root
    monkeypatch.setattr(os, "scandir", refuse)
    assert read_image(tmp_path / "text.png") == Skipped("Permission denied")
    assert read_image(tmp_path) == Skipped("Permission denied")


def test_a_truncated_file_is_skipped(tmp_path, colours):
    Image.fromarray(np.tile(colours, (20, 20, 1))).save(tmp_path / "x.jpg")
    data = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").write_bytes(data[: len(data) // 2])
    assert "truncated" in read_image(tmp_path / "x.jpg").reason


def test_damaged_files_are_read_or_skipped_with_the_same_reason_each_time(tmp_path):
    """Every format, with bytes turned, cut and blanked: nothing is raised, and every reason is one line of text."""
    kinds, skipped = set(), 0
    for name, data in mutations(1000, seed=1):
        (tmp_path / name).write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about damaged files
            first, second = read_image(tmp_path / name), read_image(tmp_path / name)
        assert type(first) is type(second)
        if isinstance(first, Skipped):
            skipped += 1
            assert first == second
            assert first.reason
            assert "\n" not in first.reason
            assert "0x" not in first.reason  # an address would differ from run to run
        else:
            kinds.add(first.format)
            assert torch.equal(first.pixels, second.pixels)
            assert first.pixels.shape[0] == 3
    assert 300 < skipped < 900
    assert len(kinds) >= 6


def test_no_format_runs_another_program():
    assert not {"EPS", "WMF", "PDF", "TGA"} & set(FORMATS)
    assert {"JPEG", "PNG", "WEBP", "GIF", "TIFF"} <= set(_formats())
