"""The one reader of image files: pixels, or the reason why a file has none.

Formats come from an allow-list and are recognised by content, never by name. Read are PNG, JPEG, WebP, BMP, TIFF, GIF,
AVIF, JPEG 2000, PPM and QOI; of an animation the first image in the file. Everything else is refused, above all EPS,
for which Pillow would start Ghostscript.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from .pixels import is_wide_with_key, low_bytes, to_rgb, widen_key


# Raster formats only: Pillow would hand EPS to Ghostscript, and takes nearly any file for TGA.
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
class DecodedImage:
    """Pixels of a file.

    Attributes:
        pixels: (3, H, W) uint8 RGB.
        format: of the content, as Pillow names it.
        notes: what had to be done to get these pixels, such as "transparent, on white".
    """

    pixels: torch.Tensor
    format: str
    notes: tuple[str, ...] = ()

    @property
    def blank(self) -> bool:
        """Whether every pixel has the same colour."""
        return bool((self.pixels == self.pixels[:, :1, :1]).all())


@dataclass(frozen=True)
class Skipped:
    """A file without pixels, and the reason."""

    reason: str


def read_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> DecodedImage | Skipped:
    """Read an image file, or say why it cannot be read. Whatever the file holds, this neither raises nor runs anything.

    The EXIF orientation is applied, transparency is composited on white, grey, palette, CMYK and Lab become RGB. Grey
    of 12 and 16 bits and floats in [0, 1] are scaled to 8 bits, and WhiteIsZero is inverted; 16-bit colour keeps its
    high bytes. Colour profiles are not applied.

    Args:
        max_pixels: larger images are skipped before they are decoded. At most twice `MAX_PIXELS`.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            os.scandir(os.fspath(path)).close()  # raises the reason why it could not be listed
            return Skipped("a folder")
        if not stat.S_ISREG(status.st_mode):  # reading a pipe would wait for its writer
            return Skipped("not a regular file")
        if not status.st_size:
            return Skipped("an empty file")
        with _open(path) as image:
            width, height = image.size
            if width * height > max_pixels:
                return Skipped(f"{width} x {height} pixels are more than the limit of {max_pixels}")
            return _decode(image, path)
    except UnidentifiedImageError:
        return Skipped("not an image in a known format")
    # Decoders of damaged files raise anything (struct.error, KeyError, ZeroDivisionError, ...): all of it is reported.
    except Exception as error:
        known = isinstance(error, OSError) and error.strerror
        return Skipped(known or " ".join(f"cannot be decoded: {type(error).__name__}: {error}".split())[:200])


@contextmanager
def _open(path: str | os.PathLike) -> Iterator[ImageFile]:
    with open(path, "rb") as file, Image.open(file, formats=_formats()) as image:
        yield image


def _decode(image: ImageFile, path: str | os.PathLike) -> DecodedImage:
    notes: list[str] = []
    low = None
    kind = "JPEG" if image.format == "MPO" else image.format or ""
    suffix = os.path.splitext(os.fspath(path))[1].lower()
    if Image.registered_extensions().get(suffix, kind) not in (kind, image.format):
        notes.append(f"{kind} named {suffix}")
    if getattr(image, "is_animated", False):
        notes.append("first of several frames")
        image.seek(0)
    if bits := _wide(image):
        notes.append(bits)
    if is_wide_with_key(image):
        with _open(path) as again:
            low = low_bytes(again)
    widen_key(image)
    image.load()
    turn = _orientation(image, notes)
    rgb = to_rgb(image, low, notes)
    if turn is not None:
        rgb = rgb.transpose(turn)
        notes.append("turned as its EXIF says")
    pixels = torch.from_numpy(np.array(rgb)).permute(2, 0, 1).contiguous()
    return DecodedImage(pixels, kind, tuple(notes))


def _wide(image: ImageFile) -> str | None:
    """A note on images of more than 8 bits that are not loaded yet."""
    raw = " ".join(str(tile[3]) for tile in image.tile)
    if "I;12" in raw:
        return "12 bits"
    if ";32" in raw and image.mode == "I":
        return "32 bits"
    return "16 bits" if image.mode.startswith("I") or ";16" in raw else None


def _orientation(image: Image.Image, notes: list[str]) -> Image.Transpose | None:
    """Asked for after loading: Pillow turns some formats by itself then, and removes the entry."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # the pixels are sound even if this is not
        notes.append("EXIF that cannot be read")
        return None


@cache
def _formats() -> list[str]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]
