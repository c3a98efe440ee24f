"""Damaged image files: whole ones of every format, then bits turned, ends cut, middles blanked, names exchanged."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image


SUFFIXES = ("png", "jpg", "gif", "webp", "bmp", "tiff", "jp2", "ppm", "avif", "qoi")
WAYS = ("flip", "header", "cut", "blank", "grow", "rename", "empty", "zeros")


def mutations(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """`count` file names with their bytes, the same for the same seed."""
    draw = np.random.default_rng(seed)
    whole = {suffix: _whole(suffix, draw) for suffix in SUFFIXES}
    for index in range(count):
        suffix, way = SUFFIXES[index % len(SUFFIXES)], WAYS[index // len(SUFFIXES) % len(WAYS)]
        data = np.frombuffer(whole[suffix], dtype=np.uint8).copy()
        if way in ("flip", "header"):
            spots = draw.integers(0, len(data) if way == "flip" else 64, int(draw.integers(1, 8)))
            data[spots] ^= np.uint8(1) << draw.integers(0, 8, len(spots), dtype=np.uint8)
        elif way == "cut":
            data = data[: int(draw.integers(1, len(data)))]
        elif way == "blank":
            start = int(draw.integers(0, len(data)))
            data[start : start + 40] = 0
        elif way == "grow":
            start = int(draw.integers(0, len(data)))
            data = np.concatenate([data[:start], draw.integers(0, 256, 100, dtype=np.uint8), data[start:]])
        elif way == "rename":
            suffix = ("txt", "eps", "heic", "", *SUFFIXES)[int(draw.integers(0, 14))]
        elif way == "empty":
            data = data[:0]
        else:
            data[:] = 0
        yield f"{index:04}-{way}.{suffix}".rstrip("."), data.tobytes()


def _whole(suffix: str, draw: np.random.Generator) -> bytes:
    colours = draw.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    file = io.BytesIO()
    exif = {"exif": Image.Exif()} if suffix in ("png", "jpg", "webp", "avif") else {}
    for tags in exif.values():
        tags[0x0112] = 6
    kind = {"jpg": "JPEG", "jp2": "JPEG2000"}.get(suffix, suffix.upper())
    frames = {"save_all": True, "append_images": [Image.new("RGB", (16, 12))]} if suffix in ("gif", "tiff") else {}
    Image.fromarray(colours).save(file, kind, **exif, **frames)
    return file.getvalue()
