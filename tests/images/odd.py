"""Image files as no library of ours writes them: PNG and TIFF by hand, BMP without a used alpha, and what they mean."""

import io
import struct
import zlib
from collections.abc import Iterable

import numpy as np
from PIL import Image


RAMP = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
BYTES = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)


def png(pixels: np.ndarray, depth: int, kind: int, chunks: Iterable[tuple[bytes, bytes]] = (), size=None) -> bytes:
    """PNG of the colour type `kind` with `chunks` before the pixels; `size` (width, height) to lie about."""
    high, wide = pixels.shape[:2]
    wide = wide if depth >= 8 else wide * 8 // depth  # packed already
    rows = np.ascontiguousarray(pixels.astype(">u2" if depth == 16 else "u1"))
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", *(size or (wide, high)), depth, kind, 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def tiff(data: np.ndarray | bytes, bits: int, photometric: int, number: int = 1, samples: int = 1, more=None) -> bytes:
    """Little-endian TIFF of 64 x 64 pixels in one strip; `number` 1 unsigned, 2 signed, 3 float."""
    data = data if isinstance(data, bytes) else data.tobytes()
    tags = {256: (3, [64]), 257: (3, [64]), 258: (3, [bits] * samples), 259: (3, [1]), 262: (3, [photometric])}
    tags |= {273: (4, [8]), 277: (3, [samples]), 278: (3, [64]), 279: (4, [len(data)]), 339: (3, [number] * samples)}
    tags |= more or {}
    data += b"\0" * (len(data) % 2)
    start = 8 + len(data)
    entries, tail = b"", b""
    for tag in sorted(tags):
        kind, values = tags[tag]
        packed = struct.pack(f"<{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            place, tail = start + 2 + 12 * len(tags) + 4 + len(tail), tail + packed
            packed = struct.pack("<I", place)
        entries += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", start) + data + struct.pack("<H", len(tags)) + entries + bytes(4) + tail


def bmp(alpha: int) -> bytes:
    """BMP of 32 bits with a mask for its alpha, which screenshots leave at 0."""
    pixels = np.stack([BYTES, np.full_like(BYTES, 100), BYTES[::-1], np.full_like(BYTES, alpha)], -1).tobytes()
    head = struct.pack("<IiiHHIIiiII", 108, 64, 64, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    return b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + head[:108] + pixels


def packed(values: np.ndarray, bits: int) -> bytes:
    """Whole numbers of 4 or 12 bits, one after another."""
    flags = (values.ravel()[:, None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(flags.astype(np.uint8)).tobytes()


def grey(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, -1)


def scaled(values: np.ndarray, white: float) -> np.ndarray:
    return grey(np.rint(values * (255 / white)).astype(np.uint8))


def odd_files() -> dict[str, tuple[bytes, np.ndarray | None]]:
    """Name -> the file, and the RGB (64, 64, 3) uint8 that it means; None where it has to be refused."""
    half, wide = RAMP.copy(), np.stack([RAMP, RAMP[::-1], RAMP.T], -1)
    half[:, :32], wide[:, :32] = 0, 0x1234
    near = wide.copy()
    near[:, :32, 0] += 1  # another colour, with the same high bytes
    key = struct.pack(">HHH", 0x1234, 0x1234, 0x1234)
    high = (wide >> 8).astype(np.uint8)
    on_white = high.copy()
    on_white[:, :32] = 255
    light = scaled(half, 65535)
    light[half == 0] = 255
    veiled = np.stack([RAMP, np.zeros_like(RAMP)], -1)
    veiled[:, 32:, 1] = 65535
    unveiled = grey((RAMP >> 8).astype(np.uint8))
    unveiled[:, :32] = 255
    four = BYTES >> 4
    keyed = grey(four * 17)
    keyed[four == 5] = 255
    twelve = RAMP >> 4
    screen = np.stack([BYTES[::-1], np.full_like(BYTES, 100), BYTES], -1)[::-1]
    alpha = np.full_like(BYTES, 255)
    counts = RAMP.astype(np.uint32)
    few = (half >> 8).astype(np.uint8)
    lit = grey(few)
    lit[few == 0] = 255
    colours = np.stack([BYTES, BYTES.T, BYTES[::-1]], -1)
    veil = np.concatenate([colours // 2, np.full((64, 64, 1), 128, np.uint8)], -1)  # multiplied by its alpha already
    turned = {274: (3, [6])}
    return {
        "grey16.png": (png(RAMP, 16, 0), scaled(RAMP, 65535)),
        "grey16-trns.png": (png(half, 16, 0, [(b"tRNS", bytes(2))]), light),
        "grey8-trns.png": (png(few, 8, 0, [(b"tRNS", bytes(2))]), lit),
        "grey4-trns.png": (
            png(np.frombuffer(packed(four, 4), np.uint8).reshape(64, 32), 4, 0, [(b"tRNS", b"\0\5")]),
            keyed,
        ),
        "rgb16.png": (png(wide, 16, 2), high),
        "rgb16-trns.png": (png(wide, 16, 2, [(b"tRNS", key)]), on_white),
        "rgb16-near.png": (png(near, 16, 2, [(b"tRNS", key)]), (near >> 8).astype(np.uint8)),
        "la16.png": (png(veiled, 16, 4), unveiled),
        "g8-black-zero.tif": (tiff(BYTES, 8, 1), grey(BYTES)),
        "g8-white-zero.tif": (tiff(255 - BYTES, 8, 0), grey(BYTES)),
        "g4-white-zero.tif": (tiff(packed(15 - four, 4), 4, 0), grey(four * 17)),
        "g12.tif": (tiff(packed(twelve, 12), 12, 1), scaled(twelve, 4095)),
        "g16-black-zero.tif": (tiff(RAMP, 16, 1), scaled(RAMP, 65535)),
        "g16-white-zero.tif": (tiff(65535 - RAMP, 16, 0), scaled(RAMP, 65535)),
        "float.tif": (tiff((RAMP / 65535).astype("<f4"), 32, 1, 3), scaled(RAMP, 65535)),
        "float-white-zero.tif": (tiff((1 - RAMP / 65535).astype("<f4"), 32, 0, 3), scaled(RAMP, 65535)),
        "float-to-255.tif": (tiff((RAMP / 257).astype("<f4"), 32, 1, 3), None),
        "float-nan.tif": (tiff(np.full((64, 64), np.nan, "<f4"), 32, 1, 3), None),
        "u32.tif": (tiff(counts * 65537, 32, 1), scaled(RAMP, 65535)),
        "u32-of-16.tif": (tiff(counts, 32, 1), None),
        "i32-of-8.tif": (tiff((counts // 257).astype("<i4"), 32, 1, 2), None),
        "rgb16.tif": (tiff(wide.astype("<u2"), 16, 2, samples=3), high),
        "grey-associated.tif": (
            tiff(np.stack([BYTES, alpha], -1), 8, 1, samples=2, more={338: (3, [1])}),
            grey(BYTES),
        ),
        "grey-unassociated.tif": (
            tiff(np.stack([BYTES, alpha], -1), 8, 1, samples=2, more={338: (3, [2])}),
            grey(BYTES),
        ),
        "rgb-associated.tif": (tiff(veil, 8, 2, samples=4, more={338: (3, [1])}), veil[..., :3] + 127),
        "turned.tif": (tiff(colours, 8, 2, samples=3, more=turned), np.rot90(colours, -1)),
        "turned-grey.tif": (tiff(BYTES, 8, 1, more=turned), grey(np.rot90(BYTES, -1))),
        "alpha-0.bmp": (bmp(0), screen),
        "alpha-255.bmp": (bmp(255), screen),
    }


def whole_files() -> dict[str, bytes]:
    """Further files that Pillow writes: CMYK, palettes with a transparent entry, orientations, animations, cut ones."""
    draw = np.random.default_rng(0)
    base = Image.fromarray(np.stack([BYTES, BYTES.T, BYTES[::-1]], -1)).resize((96, 48), Image.Resampling.BICUBIC)
    noisy = np.asarray(base).astype(int) + draw.integers(-20, 20, (48, 96, 3))
    base = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    turned, palette = Image.Exif(), base.quantize(16)
    turned[0x0112] = 6
    files = {"cmyk.jpg": saved(base.convert("CMYK"), "JPEG"), "cmyk.tif": saved(base.convert("CMYK"), "TIFF")}
    files |= {"ycc.tif": saved(base.convert("YCbCr"), "TIFF"), "g16.jp2": saved(Image.fromarray(RAMP), "JPEG2000")}
    files["lab.tif"] = tiff(np.stack([BYTES, BYTES.T, BYTES[::-1]], -1), 8, 8, samples=3)
    files |= {f"turned.{suffix}": saved(base, kind, exif=turned) for suffix, kind in KINDS.items() if suffix in TURNED}
    files |= {f"palette.{suffix}": saved(palette, suffix.upper(), transparency=0) for suffix in ("png", "gif")}
    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    files["default.png"] = saved(red, "PNG", save_all=True, append_images=[blue, blue], default_image=True)
    for suffix, kind in KINDS.items():
        data = saved(base, kind)
        half, flipped = len(data) // 2, bytearray(data)
        for place in draw.integers(len(data) // 3, len(data), 20):
            flipped[place] ^= 0x55
        files |= {f"whole.{suffix}": data, f"half.{suffix}": data[:half], f"most.{suffix}": data[: len(data) * 9 // 10]}
        files |= {f"zeros.{suffix}": data[:half] + bytes(len(data) - half), f"flipped.{suffix}": bytes(flipped)}
    return files


TURNED = ("png", "jpg", "webp", "tif", "avif")
KINDS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tif": "TIFF", "bmp": "BMP", "gif": "GIF", "jp2": "JPEG2000"}
KINDS |= {"avif": "AVIF", "ppm": "PPM", "qoi": "QOI"}


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb(side: int = 20_000) -> bytes:
    """A PNG file of few bytes that says it has `side` x `side` pixels."""
    return png(np.zeros((4, 4), np.uint8), 8, 0, size=(side, side))
