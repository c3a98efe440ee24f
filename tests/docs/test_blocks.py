"""Every block of Python of the documents runs, on stand-ins, in the order of its page and in one namespace."""

import re
import shutil
from pathlib import Path

import pytest
from diffusers import DiffusionPipeline

import diffusion_guidance
from diffusion_guidance.attachment.families import registry
from diffusion_guidance.networks import classifiers, encoders

from . import stand_ins
from .presets import PRESETS


ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^( *)```python\n(.*?)^\1```", flags=re.M | re.S)


def blocks(path: Path) -> list[str]:
    """The blocks of Python of a document, each behind as many empty lines as stand before it."""
    text = path.read_text(encoding="utf-8")
    return [
        "\n" * (text[: found.start()].count("\n") + 1) + re.sub(rf"^{found[1]}", "", found[2], flags=re.M)
        for found in BLOCK.finditer(text)
    ]


PAGES = [path for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))] if blocks(path)]


@pytest.fixture
def offline(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "pipelines", "pipelines")
    monkeypatch.setattr(DiffusionPipeline, "from_pretrained", classmethod(stand_ins.from_pretrained))
    monkeypatch.setattr(DiffusionPipeline, "to", stand_ins.to)
    for module in (diffusion_guidance, classifiers):
        monkeypatch.setattr(module, "load_classifier", stand_ins.classifier)
    monkeypatch.setattr(encoders, "load_encoder", stand_ins.encoder)
    monkeypatch.setattr(registry, "_FAMILIES", [*registry._FAMILIES])
    monkeypatch.setenv("MPLBACKEND", "agg")


@pytest.mark.parametrize("page", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_every_block_runs(page, offline):
    names: dict[str, object] = {"__name__": "__main__"}
    for number, block in enumerate(blocks(page)):
        names |= PRESETS.get(page.stem, {}).get(number, dict)()
        exec(compile(block, str(page), "exec"), names)


def test_a_block_that_fails_fails_with_its_line(tmp_path):
    path = tmp_path / "page.md"
    path.write_text("# Page\n\n1. Item:\n\n   ```python\n   one = 1\n   two\n   ```\n")
    (block,) = blocks(path)
    with pytest.raises(NameError, match="two") as caught:
        exec(compile(block, str(path), "exec"), {})
    assert caught.traceback[-1].lineno + 1 == 7
