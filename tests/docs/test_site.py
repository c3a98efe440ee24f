"""The site builds without a warning and without a network, and what it says of other packages is so."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import diffusers
import pytest

import diffusion_guidance


ROOT = Path(__file__).parents[2]


def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("material", reason="pip install mkdocs-material 'mkdocstrings[python]'")
    pytest.importorskip("mkdocstrings")
    blocked = tmp_path / "sitecustomize.py"
    refuse = "def refuse(*_, **__): raise OSError('network')"
    blocked.write_text(f"import socket\n{refuse}\nsocket.socket.connect = socket.getaddrinfo = refuse\n")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    reference = "".join(path.read_text() for path in (tmp_path / "site/reference").glob("*.html"))
    hidden = [name for name in diffusion_guidance.__all__ if not re.search(rf'id="[\w.]*\.{name}"', reference)]
    assert not hidden
    pages = [path.read_text() for path in (tmp_path / "site").rglob("*.html")]
    fetched = {url for page in pages for url in re.findall(r'(?:src|href)="(https?://[^"]*\.(?:js|css|woff2?))', page)}
    assert not fetched


def rows() -> list[tuple[str, str, str]]:
    text = (ROOT / "docs/models.md").read_text(encoding="utf-8")
    return re.findall(r"\| `(\w+Pipeline)` \| `(\w+=[\d.]+)` \| (\d+) \|", text)


@pytest.mark.parametrize(("pipeline", "weight", "steps"), rows())
def test_settings_by_model_are_the_defaults_of_diffusers(pipeline, weight, steps):
    defaults = inspect.signature(getattr(diffusers, pipeline).__call__).parameters
    name, _, value = weight.partition("=")
    assert defaults[name].default == float(value) and defaults["num_inference_steps"].default == int(steps)


def test_there_are_settings_for_many_models():
    assert len(rows()) >= 13
