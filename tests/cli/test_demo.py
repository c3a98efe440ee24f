import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from diffusion_guidance.core.extras import EXTRAS


ROOT = Path(__file__).parents[2]
#: Import names of what is not imported under the name that it is installed by.
IMPORTED_AS = {
    "open_clip_torch": "open_clip",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
    "torch-fidelity": "torch_fidelity",
}


def optional_dependencies() -> dict[str, list[str]]:
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_the_demo_leaves_a_grid_a_plot_and_a_report_with_nothing_but_its_extra(tmp_path):
    """In an empty folder, with every package hidden that neither the core nor the extra `demo` installs."""
    extras = optional_dependencies()
    named = {line.split(">")[0] for line in extras["demo"]}
    hidden = sorted(set(EXTRAS) - {IMPORTED_AS.get(name, name) for name in named})
    assert {"timm", "open_clip", "torchvision", "torch_fidelity"} <= set(hidden)
    arguments = ["demo", "--out", "shown", "--samples", "4", "--columns", "2"]
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n"
        f"from diffusion_guidance.cli.command import main; sys.exit(main({arguments}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300, cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["shown"]
    rows = json.loads((tmp_path / "shown" / "report.json").read_text())["rows"]
    emoji = [(method, steps) for steps in (5, 10, 30) for method in ("cfg", "raag")]
    assert [(row["method"], row["steps"]) for row in rows] == [*emoji, ("unguided", 25), ("cfg", 25), ("elucd", 25)]
    for row in rows:
        assert 0 <= row.get("alignment", row.get("accuracy")) <= 1 and row["samples"] == 4
        assert ("alignment" in row) != (row.get("frechet", 0) > 0)
    for name in ("grid.png", "digits.png", "ratio.png"):
        with Image.open(tmp_path / "shown" / name) as image:
            assert image.width > 200 and name in result.stdout
