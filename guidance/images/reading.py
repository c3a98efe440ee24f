"""Reading one picture file, whatever it holds: pixels, or the reason why there are none."""

import os
import stat
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError


# Raster formats alone: Pillow would hand EPS to Ghostscript, and takes nearly any file for TGA.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TIFF", "WEBP")
MAX_PIXELS = 89_478_485  # Pillow's own: a quarter of a gigabyte of RGB; it refuses twice as many by itself
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Picture:
    """Pixels of a file.

    Attributes:
        pixels: (3, H, W) uint8 RGB.
        format: of the content, as Pillow names it.
        notes: what had to be done to come to these pixels, such as "transparent, on white".
    """

    pixels: torch.Tensor
    format: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """A file without pixels, and the reason."""

    reason: str


def read_picture(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> Picture | Skipped:
    """The picture in a file, or why there is none; nothing about the file makes this raise.

    The format is told by the content. The orientation in EXIF is applied, transparency is laid on white, of an
    animation the first frame is taken, grey and CMYK become RGB, 16 bits become 8. Colour profiles are not applied.

    Args:
        max_pixels: files of more pixels are skipped before they are decoded. At most twice `MAX_PIXELS`.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            os.scandir(path).close()  # says why it could not be listed
            return Skipped("a folder")
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            return Skipped("not a regular file")
        if not status.st_size:
            return Skipped("an empty file")
        with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
            width, height = image.size
            if width * height > max_pixels:
                return Skipped(f"{width} x {height} pixels are more than the limit of {max_pixels}")
            return _decode(image, Path(path).suffix.lower())
    except UnidentifiedImageError:
        return Skipped("no picture in a known format")
    # Decoders of damaged files raise anything (struct.error, KeyError, ZeroDivisionError, ...): all of it is reported.
    except Exception as error:
        known = isinstance(error, OSError) and error.strerror
        return Skipped(known or " ".join(f"cannot be decoded: {type(error).__name__}: {error}".split())[:200])


def _decode(image: Image.Image, suffix: str) -> Picture:
    notes = []
    kind = "JPEG" if image.format == "MPO" else image.format
    if Image.registered_extensions().get(suffix, kind) not in (kind, image.format):
        notes.append(f"{kind} named {suffix}")
    if getattr(image, "is_animated", False):
        notes.append("first of several frames")
        image.seek(0)
    if image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in image.tile):
        notes.append("16 bits")
    image.load()
    turn = _orientation(image, notes)
    rgb = _to_rgb(image, notes)
    if turn is not None:
        rgb = rgb.transpose(turn)
        notes.append("turned as its EXIF says")
    pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()
    return Picture(pixels, kind, tuple(notes))


def _orientation(image: Image.Image, notes: list[str]) -> Image.Transpose | None:
    """Asked for after loading, since Pillow turns some formats by itself then and takes the entry out."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION))
    except Exception:  # the pixels are sound even if this is not
        notes.append("EXIF that cannot be read")
        return None


def _to_rgb(image: Image.Image, notes: list[str]) -> Image.Image:
    mode = image.mode
    if mode.startswith(("I", "F")):
        return _from_numbers(np.asarray(image), whole=mode.startswith("I"))
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        colours = image.convert("RGBA")
        if colours.getextrema()[3][0] == 255:  # a channel that says nothing
            return colours.convert("RGB")
        notes.append("transparent, on white")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")
    if mode == "CMYK":
        notes.append("CMYK without its profile")
    return image if mode == "RGB" else image.convert("RGB")


def _from_numbers(values: np.ndarray, whole: bool) -> Image.Image:
    """Grey of 16 bits, of whole numbers in that range, or of floats in [0, 1]. Raises ValueError for another range."""
    low, high = values.min(), values.max()
    most = 65535 if whole else 1
    if not (low >= 0 and high <= most):
        raise ValueError(f"values from {low} to {high} have no known white; 0 to {most} would be read")
    grey = np.rint(values.astype(np.float64) * (255 / most)).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


@cache
def _formats() -> list[str]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]
