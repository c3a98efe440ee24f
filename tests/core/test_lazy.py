"""Names that are loaded when asked for: all of them are there, and asking is all that loads anything."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest


PACKAGES = ["", ".detection", ".evaluation", ".pipelines", ".worlds"]


@pytest.mark.parametrize("name", PACKAGES)
def test_every_public_name_is_there_and_none_is_a_submodule(name):
    package = importlib.import_module(f"diffusion_guidance{name}")
    folder = Path(package.__file__).parent
    for public in package.__all__:
        assert getattr(package, public).__class__.__name__ != "module"
        assert not (folder / f"{public}.py").exists()  # once loaded it would take the name's place
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match=f"module 'diffusion_guidance{name}' has no attribute 'nonesuch'"):
        _ = package.nonesuch


@pytest.mark.parametrize("name", PACKAGES)
def test_what_type_checkers_see_is_what_is_public(name):
    package = importlib.import_module(f"diffusion_guidance{name}")
    tree = ast.parse(Path(package.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
    assert {alias.name for node in block.body for alias in node.names} == set(package.__all__)


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)


def test_importing_loads_nothing_and_guiders_only_when_one_is_given():
    code = (
        "import sys, diffusion_guidance\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "from diffusion_guidance import CFG, RAAG, Trace, attach\n"
        "from diffusion_guidance.core.callback import as_list\n"
        "as_list([CFG(2), RAAG(), Trace()])\n"
        "heavy = {'diffusers.guiders', 'matplotlib', 'scipy', 'sklearn', 'torchvision', 'timm'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = run(code)
    assert result.returncode == 0, result.stderr


def test_a_missing_package_is_named_with_the_extra_that_brings_it():
    code = "import sys; sys.modules['scipy'] = None\nfrom diffusion_guidance.detection import calibrate\n"
    result = run(code)
    assert "pip install 'diffusion-guidance[evaluation]'" in result.stderr.splitlines()[-1]
