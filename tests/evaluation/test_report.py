"""Reports are whole files, say how to repeat the run, and show what they hold."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_guidance.evaluation import (
    contact_sheet,
    curve_plot,
    describe_run,
    markdown_table,
    pareto_front,
    pareto_plot,
    read_report,
    write_report,
)


ROWS = [
    {"method": "cfg", "weight": 1.0, "frechet": 5.0, "alignment": 0.3, "frechet_interval": [4.5, 5.5]},
    {"method": "cfg", "weight": 3.0, "frechet": 7.0, "alignment": 0.9},
    {"method": "raag", "weight": 3.0, "frechet": 6.0, "alignment": 0.2},
    {"method": "raag", "weight": 4.0, "frechet": None, "alignment": 0.5},
]


def test_report_round_trip_and_bytes(tmp_path):
    meta = describe_run(samples=4, seeds=[0, 4])
    assert {"command", "commit", "versions", "samples", "seeds"} <= set(meta)
    assert meta["versions"]["torch"] == torch.__version__
    first, second = (write_report(tmp_path / name, meta, ROWS) for name in ("a.json", "b.json"))
    assert first.read_bytes() == second.read_bytes()
    assert read_report(first) == (meta, ROWS)
    assert set(json.loads(first.read_text())) == {"meta", "rows"}


def test_what_is_no_number_or_no_report_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(tmp_path / "a.json", {}, [{"frechet": float("nan")}])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "b.json").write_text("[]")
    with pytest.raises(ValueError, match=r"cannot read a report from .*b\.json"):
        read_report(tmp_path / "b.json")


def test_markdown_table():
    table = markdown_table([*ROWS[:1], {"method": "a|b", "frechet": 1 / 3}], {"method": "method", "frechet": "FID"})
    assert table == "| method | FID |\n| --- | --- |\n| cfg | 5 [4.5, 5.5] |\n| a\\|b | 0.3333 |\n"
    timed = [{"time_ratio": 1.5, "time_ratio_quartiles": [1.25, 2.0]}]
    assert markdown_table(timed, ["time_ratio"]).endswith("| 1.5 [1.25, 2] |\n")
    assert markdown_table(ROWS[3:], ["time_ratio"]) == "| time ratio |\n| --- |\n| - |\n"


def test_pareto_front_equals_its_definition():
    rows = [{"frechet": x, "alignment": y} for x, y in np.random.default_rng(0).standard_normal((60, 2)).tolist()]

    def beats(a, b):
        return a is not b and a["frechet"] <= b["frechet"] and a["alignment"] >= b["alignment"]

    best = [row for row in rows if not any(beats(other, row) for other in rows)]
    front = pareto_front(rows)
    assert front == sorted(best, key=lambda row: row["frechet"])
    assert len(front) > 2


def test_plots_and_contact_sheet_are_images(tmp_path):
    for draw in (pareto_plot, curve_plot):
        first, second = (draw(tmp_path / f"{draw.__name__}{i}.png", ROWS, title="t") for i in range(2))
        assert first.read_bytes() == second.read_bytes()
        with Image.open(first) as image:
            assert image.size == (960, 660)
        with pytest.raises(ValueError, match="no row has both"):
            draw(tmp_path / "none.png", ROWS[3:])
    images = torch.rand(5, 3, 8, 8)
    with Image.open(contact_sheet(tmp_path / "sheet.png", images, columns=3, scale=2)) as image:
        assert image.size == (3 * 18 + 2, 2 * 18 + 2)
        pixels = np.asarray(image)[2:18:2, 2:18:2] / 255
    np.testing.assert_allclose(pixels, images[0].permute(1, 2, 0), atol=1 / 255)
