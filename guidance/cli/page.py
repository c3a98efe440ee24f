"""HTML pages of one file: nothing is fetched, nothing runs, and names of files stay text."""

import base64
import io
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from PIL import Image

from ..core.files import write_atomic


POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = (
    "body{font-family:sans-serif;margin:1.5em;max-width:80em}h1{font-size:1.5em}"
    "td,th{padding:.3em .8em;text-align:left}"
    "img{max-width:100%}.caution{border-left:.4em solid #c60;background:#fff3e0;padding:.5em 1em}"
)


def write_page(path: Path, title: str, body: Iterable[str], style: str = STYLE) -> Path:
    """Write a page, atomically and piece by piece. The pieces of `body` are HTML, `title` is text."""

    def write(temporary: Path) -> None:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write('<!doctype html>\n<html lang="en"><meta charset="utf-8">')
            file.write(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">')
            file.write(f"<title>{text(title)}</title><style>{style}</style>\n<h1>{text(title)}</h1>\n")
            file.writelines(body)
            file.write("</html>\n")

    return write_atomic(path, write)


def text(value: str) -> str:
    """`value` as HTML, invisible characters escaped as Python does: a name can hold a right-to-left override."""
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in value)
    return escape("".join(shown))


def image(source: Image.Image | bytes, alt: str = "", kind: str = "PNG") -> str:
    """An image that the page holds: one of Pillow's, written as `kind`, or the bytes of such a file."""
    if isinstance(source, Image.Image):
        file = io.BytesIO()
        source.save(file, format=kind)
        source = file.getvalue()
    return f'<img alt="{text(alt)}" src="data:image/{kind.lower()};base64,{base64.b64encode(source).decode("ascii")}">'


def cautions(sentences: Sequence[str]) -> str:
    return "".join(f'<p class="caution">Caution: {text(sentence)}.</p>\n' for sentence in sentences)


def table(markdown: str) -> str:
    """A table of `evaluation.report.markdown_table`."""
    first, _, *rows = (line.strip("| ").split(" | ") for line in markdown.splitlines())
    lines = [("th", first), *(("td", row) for row in rows)]
    cells = ("".join(f"<{tag}>{text(cell)}</{tag}>" for cell in line) for tag, line in lines)
    return f"<table>\n{''.join(f'<tr>{row}</tr>{chr(10)}' for row in cells)}</table>\n"
