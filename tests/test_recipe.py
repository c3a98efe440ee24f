"""The recipe of CONTRIBUTING.md for a new method: its file is all that it takes, and it is known everywhere."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from diffusion_guidance.evaluation.report import read_report


ROOT = Path(__file__).parent.parent
RECIPE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## A new method")[1].split("\n## ")[0]
#: In a process whose only diffusion_guidance is the copy in the working directory.
START = "import sys; sys.meta_path = [one for one in sys.meta_path if 'Editable' not in getattr(one, '__name__', '')]"


def block(language: str) -> str:
    """The first block of code of the recipe in this language, which is indented as part of a list."""
    return re.sub("^   ", "", re.search(rf"```{language}\n(.*?)```", RECIPE, flags=re.S)[1], flags=re.M)


@pytest.fixture
def copy(tmp_path):
    """A folder with a copy of the package, as a wheel has it, and the method of the recipe in its place."""
    package = tmp_path / "diffusion_guidance"
    for source, target in ((ROOT / "guidance", package), (ROOT / "pipelines", package / "pipelines")):
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "assets").symlink_to(ROOT / "assets")
    (package / "methods" / "half.py").write_text(block("python"))
    return tmp_path


def test_a_new_method_is_its_file_alone(copy):
    sweep = "evaluate sweep assets/shapes --world shapes --world-samples 50 --seeds 0-3 --steps 1 --weights 1.5,3"
    images = "generate assets/digits --classes 3 --steps 2 --no-record"  # a record names its guidance
    commands = [
        [*shlex.split(block("bash").replace("\\\n", ""))[1:], "--steps", "2", "--out", "recipe"],
        [*images.split(), "--weight", "4", "--guidance", "half:fraction=0.5", "--out", "half"],
        [*images.split(), "--weight", "2", "--out", "plain"],
        [*sweep.split(), "--method", "half:fraction={weight}", "--out", "sweep"],
    ]
    code = f"""{START}
import diffusion_guidance as package
assert package.__file__.startswith({str(copy)!r}), package.__file__
made = package.parse_guidance("half:fraction=0.25")
assert type(made) is package.Half
assert package.to_config(made) == [{{"callback": "Half", "fraction": 0.25, "start": 0.0, "stop": 1.0}}]
assert repr(package.from_config(package.to_config(made))) == repr([made])
from diffusion_guidance.cli.methods import described
assert "half (fraction)" in described()
from diffusion_guidance.cli.command import main
assert [main(command) for command in {commands!r}] == [0] * {len(commands)}
sys.path.append({str(ROOT)!r})
from scripts.studies.methods_table import table
assert "| `Half` | Guides with a fraction of the pipeline's weight | an example | `fraction=1` |" in table({{}}, [])
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=copy, timeout=200
    )
    assert result.returncode == 0, result.stderr
    image = "000000.png"
    assert (copy / "recipe" / image).stat().st_size > 50
    assert (copy / "half" / image).read_bytes() == (copy / "plain" / image).read_bytes()
    _, rows = read_report(copy / "sweep" / "report.json")
    assert [(row["method"], row["weight"]) for row in rows] == [("half", 1.5), ("half", 3.0)]
