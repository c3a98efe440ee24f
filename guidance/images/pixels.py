"""From an image as Pillow decodes it to 8-bit RGB: every mode, range and kind of transparency."""

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile


BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
SIGNED = 2


def is_wide_with_key(image: ImageFile) -> bool:
    """Whether `image`, not loaded yet, is a PNG file of 16-bit colour in which one colour is transparent.

    Pillow keeps the high bytes only and compares them with all 16 bits of the colour, so nothing would be transparent.
    """
    return image.format == "PNG" and "transparency" in image.info and image.tile[0].args == "RGB;16B"


def low_bytes(image: ImageFile) -> np.ndarray:
    """(H, W, 3) uint8: the low bytes of 16-bit colour, where Pillow keeps the high ones. `image` is not loaded yet."""
    image.tile = [tile._replace(args="RGB;16L") for tile in image.tile]  # the other order of bytes
    image.load()
    return np.asarray(image)


def widen_key(image: ImageFile) -> None:
    """Scale the transparent grey of a PNG file of 2 or 4 bits to 8 bits, as Pillow does for the pixels only."""
    if image.format == "PNG" and image.mode == "L" and "transparency" in image.info and image.tile:
        bits = {"L;2": 2, "L;4": 4}.get(str(image.tile[0].args), 8)
        image.info["transparency"] *= 255 // (2**bits - 1)


def to_rgb(image: Image.Image, low: np.ndarray | None, notes: list[str]) -> Image.Image:
    """`image`, loaded, as RGB; what had to be done is added to `notes`.

    Args:
        low: its `low_bytes` where `is_wide_with_key`, else None.

    Raises:
        ValueError: values whose white level is not known.
    """
    key = image.info.get("transparency")
    if image.mode.startswith(("I", "F")):
        grey = Image.fromarray(_grey(image)).convert("RGB")
        return grey if key is None else _masked(grey, np.asarray(image) == key, notes)
    if low is not None:
        wide = np.asarray(image).astype(np.uint16) << 8 | low
        return _masked(image, (wide == np.array(key)).all(-1), notes)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or key is not None:
        return _on_white(image, notes)
    if image.mode == "CMYK":
        notes.append("CMYK without its profile")
    return image if image.mode == "RGB" else image.convert("RGB")


def _masked(image: Image.Image, transparent: np.ndarray, notes: list[str]) -> Image.Image:
    if transparent.any():
        notes.append("transparent, on white")
        image.paste((255, 255, 255), mask=Image.fromarray(transparent))
    return image


def _on_white(image: Image.Image, notes: list[str]) -> Image.Image:
    # Pillow cannot convert premultiplied grey to RGBA at once.
    colours = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    lowest, highest = colours.getchannel("A").getextrema()
    if highest == 0 and image.format in ("BMP", "DIB"):  # screenshots: the fourth byte is not used
        notes.append("alpha of 0 everywhere, ignored")
        return colours.convert("RGB")
    if lowest == 255:
        return colours.convert("RGB")
    notes.append("transparent, on white")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")


def _grey(image: Image.Image) -> np.ndarray:
    """(H, W) uint8 of grey in 12, 16 or 32 bits, or in floats in [0, 1].

    Raises:
        ValueError: values outside the range, or integers of 32 bits that are signed or do not use their range.
    """
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    white = 1 if image.mode == "F" else 4095 if tags.get(BITS) == (12,) else 65535
    if image.mode == "I" and tags:
        if tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED:
            raise ValueError(f"signed integers from {values.min()} to {values.max()} have no known white")
        values, white = values.view(np.uint32), 2**32 - 1
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= white):
        raise ValueError(f"values from {low} to {high} have no known white; 0 to {white} would be read")
    if white > 65535 and high <= white // 2:  # most likely 8 or 16 bits in a wider field
        raise ValueError(f"integers of 32 bits from {low} to {high} have no known white")
    scaled = values.astype(np.float64) * (255 / white)
    if tags.get(PHOTOMETRIC) == 0:  # white is zero: Pillow inverts 8 bits and fewer, but not these
        scaled = 255 - scaled
    return np.rint(scaled).astype(np.uint8)
