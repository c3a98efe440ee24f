"""The page of `diffusion-guidance detect score --html`: thumbnails in the order of their scores."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from ..core.plots import canvas, png
from ..detection.results import read_rows
from ..detection.threshold import Calibration
from ..images.reading import DecodedImage, read_image
from . import page


SIDE = 112  # pixels of a thumbnail
SHOWN = 500  # thumbnails at either end of the order, so that a page of many files still opens
ABOUT = "Lowest scores first. A low score means generated: a little noise moves the features of such an image far."
STYLE = page.STYLE + (
    ".grid{display:flex;flex-wrap:wrap;gap:.6em}figure{margin:0;width:8.5em;font-size:.8em;overflow-wrap:anywhere}"
    "figure img{height:7em;width:100%;object-fit:contain;background:#eee}.line{flex-basis:100%;border-top:.25em solid "
    "#c60;padding:.3em 0}.generated figcaption b{color:#b00}.real figcaption b{color:#060}"
)


def write_score_page(
    path: Path, table: Path, calibration: Calibration | None, cautions: Sequence[str], max_pixels: int
) -> Path:
    """Write the page of the rows in `table`, lowest score first, with the threshold where it lies."""
    rows = [row for row, _ in read_rows(table)]
    failed = [row for row in rows if row["error"]]
    scored = sorted((row for row in rows if not row["error"]), key=lambda row: (float(row["score"]), row["path"]))
    body = [
        page.cautions(cautions),
        f"<p>{page.text(ABOUT)}</p>\n",
        f"<p>{page.text(_counts(scored, failed))}</p>\n",
        *([page.image(_histogram(scored, calibration), "how often each score occurs")] if scored else []),
        '<div class="grid">\n',
        *_cards(scored, calibration, max_pixels),
        "</div>\n",
        *_failures(failed),
    ]
    return page.write_page(path, "Images in the order of their scores", body, STYLE)


def _counts(scored: Sequence[Mapping], failed: Sequence[Mapping]) -> str:
    counts = Counter(row["verdict"] or "scored" for row in scored) + Counter({"not scored": len(failed)})
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "No file."


def _histogram(scored: Sequence[Mapping], calibration: Calibration | None) -> bytes:
    figure = canvas(8, 2.4)
    axes = figure.subplots()
    axes.hist([float(row["score"]) for row in scored], 40, color="C0")
    if calibration is not None:
        axes.axvline(calibration.threshold, color="C3", label=f"threshold {calibration.threshold:.4g}")
        axes.axvspan(*calibration.interval, color="C3", alpha=0.15, label="its 95 % interval")
        axes.legend(frameon=False)
    axes.set(xlabel="score; lower means generated", ylabel="images")
    return png(figure)


def _cards(scored: Sequence[Mapping], calibration: Calibration | None, max_pixels: int) -> Iterator[str]:
    """A figure an image; a line where the threshold lies, and where images are left out."""
    left_out = range(SHOWN, len(scored) - SHOWN)
    marked = calibration is None
    for place, row in enumerate(tqdm(scored, desc="page", unit="image")):
        if calibration is not None and not marked and float(row["score"]) >= calibration.threshold:
            marked = True
            yield f'<div class="line">Threshold {calibration.threshold:.6g}: lower scores mean generated.</div>\n'
        if place in left_out:
            if place == left_out.start:
                yield f'<div class="line">{len(left_out)} images between these are in the table only.</div>\n'
            continue
        yield _card(row, max_pixels)


def _card(row: Mapping, max_pixels: int) -> str:
    decoded = read_image(row["path"], max_pixels)
    if isinstance(decoded, DecodedImage):
        shown = Image.fromarray(decoded.pixels.permute(1, 2, 0).numpy())
        shown.thumbnail((SIDE, SIDE))
        picture = page.image(shown, row["path"], "JPEG" if max(decoded.pixels.shape[1:]) > SIDE else "PNG")
    else:
        picture = "<p>cannot be read any more</p>"
    verdict = f"<b>{page.text(row['verdict'])}</b> " if row["verdict"] else ""
    caption = f"{verdict}{float(row['score']):.4g}<br>{page.text(row['path'])}"
    return f'<figure class="{page.text(row["verdict"] or "")}">{picture}<figcaption>{caption}</figcaption></figure>\n'


def _failures(failed: Sequence[Mapping]) -> list[str]:
    if not failed:
        return []
    lines = (f"<li>{page.text(row['path'])}: {page.text(row['error'])}</li>\n" for row in failed)
    return ["<h2>Not scored</h2>\n<ul>\n", *lines, "</ul>\n"]
