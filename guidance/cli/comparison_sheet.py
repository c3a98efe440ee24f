"""A sheet and a page of methods compared: conditions over the columns, methods next to the rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap

from PIL import Image, ImageDraw

from ..core.files import write_atomic
from . import page


SIDE = 144  # pixels of a tile's longer side on the sheet, or the next multiple of a small image's
MARGIN, LINE, LETTER = 8, 14, 6.6  # pixels: between tiles, of a line of text, of a letter at most


@dataclass(frozen=True)
class Row:
    """One method: `texts` under each of its `images`, which have the order of the columns."""

    method: str
    evaluations: float
    images: Sequence[Image.Image]
    texts: Sequence[str]


def write_sheet(path: Path, title: str, heads: Sequence[str], rows: Sequence[Row]) -> Path:
    """Write the PNG. Names of methods are wrapped next to their rows; `heads` over the columns."""
    tiles = [[_tile(image) for image in row.images] for row in rows]
    width, height = (max(tile.size[axis] for row in tiles for tile in row) for axis in (0, 1))
    names = [[*_lines(row.method.replace(",", ", "), SIDE), "", f"{row.evaluations:g} evaluations"] for row in rows]
    columns = [_lines(head, width) for head in heads]
    top = MARGIN + LINE * (2 + max(map(len, columns)))
    steps = [max(height + LINE, LINE * len(name)) + 2 * MARGIN for name in names]
    left = SIDE + 2 * MARGIN
    whole = max(left + len(heads) * (width + MARGIN), 2 * MARGIN + round(1.2 * LETTER * len(title)))
    canvas = Image.new("RGB", (whole, top + sum(steps)), "white")
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, MARGIN), title, fill="black", font_size=13)
    for column, lines in enumerate(columns):
        _write(pen, left + column * (width + MARGIN), top - LINE * len(lines) - 2, lines)
    for row, row_tiles, name, step in zip(rows, tiles, names, steps, strict=True):
        _write(pen, MARGIN, top, name)
        for column, (tile, text) in enumerate(zip(row_tiles, row.texts, strict=True)):
            x = left + column * (width + MARGIN)
            canvas.paste(tile, (x, top))
            _write(pen, x, top + height + 2, [text])
        top += step
    return write_atomic(path, canvas.save)


def write_page(path: Path, title: str, heads: Sequence[str], rows: Sequence[Row]) -> Path:
    """Write the same as one HTML file that holds its images, at their own size."""
    over = "".join(f"<th>{page.text(head)}</th>" for head in heads)
    body = (
        f"<tr><th>{page.text(row.method)}<br><small>{row.evaluations:g} evaluations</small></th>"
        + "".join(
            f"<td>{page.image(image, head)}<br><small>{page.text(text)}</small></td>"
            for head, image, text in zip(heads, row.images, row.texts, strict=True)
        )
        + "</tr>\n"
        for row in rows
    )
    style = page.STYLE + "th{max-width:16em;overflow-wrap:anywhere}td,th{text-align:center}img{min-width:128px}"
    return page.write_page(path, title, [f"<table>\n<tr><th></th>{over}</tr>\n", *body, "</table>"], style)


def _tile(image: Image.Image) -> Image.Image:
    """Small images are enlarged by whole pixels, large ones made smaller."""
    longer = max(image.size)
    if longer <= SIDE:
        size = [side * -(-SIDE // longer) for side in image.size]
        return image.convert("RGB").resize((size[0], size[1]), Image.Resampling.NEAREST)
    tile = image.convert("RGB")
    tile.thumbnail((2 * SIDE, 2 * SIDE))
    return tile


def _lines(text: str, width: int) -> list[str]:
    return wrap(text, int(width / LETTER), max_lines=6) or [""]


def _write(pen: ImageDraw.ImageDraw, x: int, y: int, lines: Sequence[str]) -> None:
    for number, line in enumerate(lines):
        pen.text((x, y + number * LINE), line, fill="black", font_size=11)
