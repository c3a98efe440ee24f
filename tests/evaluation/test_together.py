"""Two of one command on one --out: one writes, the other waits its turn or is refused, and what is there is whole."""

import os

import pytest
from PIL import Image

from diffusion_guidance.evaluation import ChunkStore, read_report

from ..tiny import tiny_dit
from .commands import both, finish, start


TIMES = int(os.environ.get("TOGETHER", 2))  # ten, and more, by hand


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dit")
    tiny_dit().save_pretrained(folder)
    return folder


def check_ends(ends: list[tuple[int | None, str]], out) -> None:
    assert {code for code, _ in ends} <= {0, 2} and 0 in {code for code, _ in ends}, ends
    for _, text in (end for end in ends if end[0] == 2):
        assert "Traceback" not in text and f"writes to {out}; wait until it ends" in text


@pytest.mark.parametrize("turn", range(TIMES))
def test_two_generate(model, tmp_path, turn):
    out = tmp_path / "out"
    arguments = ["generate", model, "--classes", "1", "--steps", 1, "--batch-size", 1, "--out", out, "--seeds"]
    check_ends(both([*arguments, "0-3"], tmp_path), out)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["000000.png", "000001.png", "000002.png", "000003.png", "settings.json"]
    again = start([*arguments, "0-4"], tmp_path / "again")
    assert finish(again) == 0 and "1 images drawn, 4 were there already" in (tmp_path / "again").read_text()
    for path in out.glob("*.png"):
        Image.open(path).load()


@pytest.mark.parametrize("turn", range(TIMES))
def test_two_evaluate_run(tmp_path, turn):
    out = tmp_path / "out"
    arguments = ["evaluate", "run", "assets/digits", "--world", "digits", "--seeds", "0-79", "--steps", 1]
    arguments += ["--batch-size", 64, "--guidance", "cfg:weight=2", "--measure", "frechet", "--out", out]
    check_ends(both(arguments, tmp_path), out)
    first = (out / "report.json").read_bytes()
    _, (row,) = read_report(out / "report.json")
    store = ChunkStore(out / "samples", 80)
    assert row["samples"] == 80 and store.missing() == []
    assert len(list(store.folder.iterdir())) == 2 and not list(out.glob(".*"))
    again = start(arguments, tmp_path / "again")
    assert finish(again) == 0 and (out / "report.json").read_bytes() == first
