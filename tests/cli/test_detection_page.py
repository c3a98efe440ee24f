"""The page of scored images: their order, the threshold, and names that stay text."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_guidance.cli import detection_page
from diffusion_guidance.cli.command import main
from diffusion_guidance.networks.patch_encoder import PatchEncoder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An encoder, 80 real images, and 6 files to score, of which one is damaged and one has a name like HTML."""
    world, draw = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        PatchEncoder(filters=8).save_pretrained(world / "encoder")
    for folder, names in (("real", range(80)), ("new", ["a", "b", "<b>c", "d", "e"])):
        (world / folder).mkdir()
        for name in names:
            pixels = draw.integers(0, 256, (20, 240 if name == "a" else 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(world / folder / f"{name}.png")
    (world / "new" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return world


@pytest.fixture
def score(world, tmp_path, capsys):
    def run(*more: object) -> tuple[int, str]:
        encoder = ["--encoder", f"local:{world}/encoder"]
        code = main(["detect", "score", str(world / "new"), "--skip-errors", *map(str, more), *encoder])
        return code, "".join(capsys.readouterr())

    return run


class Figures(HTMLParser):
    """Captions in their order, what stands between figures, and the tags that there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts += [data.strip()] if data.strip() else []


def test_images_stand_in_the_order_of_their_scores_with_the_threshold_between(world, tmp_path, score):
    calibration = tmp_path / "c.json"
    command = ["detect", "calibrate", world / "real", "--out", calibration, "--encoder", f"local:{world}/encoder"]
    assert main(list(map(str, command))) == 0
    out, html = tmp_path / "r.csv", tmp_path / "r.html"
    code, said = score("--calibration", calibration, "--out", out, "--html", html)
    assert code == 0 and f"page: {html}" in said
    text = html.read_text()
    rows = [row for row, _ in detection_page.read_rows(out)]
    scored = sorted((row for row in rows if not row["error"]), key=lambda row: float(row["score"]))
    page = Figures(text)
    assert [one for one in page.texts if one.endswith(".png") and ":" not in one] == [row["path"] for row in scored]
    assert text.count("<figure") == 5 and text.count("data:image/") == 6  # and the histogram
    assert text.count("Threshold ") == (float(scored[-1]["score"]) >= float(re.search(r"Threshold ([\d.]+)", text)[1]))
    assert "Caution: " in text and "1 not scored" in text and f"{world}/new/broken.png: " in text
    assert not page.tags & {"script", "link", "iframe"} and "&lt;b&gt;c.png" in text


def test_without_a_table_the_page_is_refused_before_anything_runs(tmp_path, score):
    code, said = score("--html", tmp_path / "r.html")
    assert code == 2 and "give --out too" in said


def test_of_many_images_both_ends_are_shown(tmp_path, monkeypatch, score):
    monkeypatch.setattr(detection_page, "SHOWN", 1)
    code, _ = score("--out", tmp_path / "r.csv", "--html", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert code == 0 and text.count("<figure") == 2 and "3 images between these are in the table only" in text
    assert "Threshold" not in text
