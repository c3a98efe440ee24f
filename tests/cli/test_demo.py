import json
import subprocess
import sys
from pathlib import Path

from PIL import Image


ROOT = Path(__file__).parents[2]


def test_the_demo_leaves_a_grid_a_plot_and_a_report(tmp_path):
    command = [
        sys.executable,
        "-m",
        "diffusion_guidance",
        "demo",
        "--out",
        tmp_path,
        "--samples",
        "8",
        "--columns",
        "4",
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    shapes = [(method, steps) for steps in (5, 10, 30) for method in ("cfg", "raag")]
    assert [(row["method"], row["steps"]) for row in rows] == [*shapes, ("unguided", 25), ("cfg", 25), ("elucd", 25)]
    for row in rows:
        assert 0 <= row.get("alignment", row.get("accuracy")) <= 1 and row["frechet"] > 0 and row["samples"] == 8
    for name in ("grid.png", "digits.png", "ratio.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 300 and name in result.stdout
