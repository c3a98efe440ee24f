import torch
from PIL import Image

from diffusion_guidance.evaluation import Reference, read_report
from diffusion_guidance.evaluation.publish import publish, publish_curves


FIGURE = {"frechet": 2.0, "frechet_interval": [1.0, 3.0], "frechet_warning": "!"}
ROW = {"method": "cfg", "steps": 5, "samples": 8, **FIGURE}


def test_what_a_run_leaves(tmp_path):
    reference = Reference.of(torch.rand(20, 3, generator=torch.Generator().manual_seed(0)))
    text = publish(tmp_path, [ROW], {"seeds": [[0, 7]]}, reference, torch.rand(8, 1, 4, 4))
    meta, rows = read_report(tmp_path / "report.json")
    assert rows == [ROW]
    assert (meta["samples"], meta["seeds"]) == (8, [[0, 7]])
    assert meta["reference"] == {"sha256": reference.digest, "samples": 20}
    assert text == (tmp_path / "report.md").read_text() and text.endswith("|\n\nfrechet_warning: !\n")
    assert "2 [1, 3]" in text and "| method | steps | samples | frechet |" in text
    with Image.open(tmp_path / "samples.png") as sheet:
        assert sheet.size == (8 * 6 + 2, 8)


def test_only_curves_of_what_is_there(tmp_path):
    assert publish_curves(tmp_path, [ROW], ["cfg"]) == []
    score = {"accuracy": 0.5, "accuracy_interval": [0.4, 0.6]}
    rows = [ROW | {"weight": weight} | score for weight in (1.0, 2.0)]
    names = [path.name for path in publish_curves(tmp_path, rows, ["cfg", "cfg"])]
    assert names == ["frechet.png", "accuracy.png", "pareto.png"]
    assert all(Image.open(path).size[0] > 100 for path in tmp_path.iterdir())
    for row in rows:
        del row["accuracy"], row["accuracy_interval"]
    (path,) = publish_curves(tmp_path / "more", rows, ["cfg", "cfg"])
    assert path.name == "frechet.png"
