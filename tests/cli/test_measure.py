"""`detect measure`: its values against scikit-learn, its re-encoding against Pillow's files, and what interrupts it."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from sklearn import metrics

from diffusion_guidance.cli import detection_job
from diffusion_guidance.cli.command import main
from diffusion_guidance.cli.failures import INTERRUPTED, PARTLY
from diffusion_guidance.detection.corruptions import RECODINGS
from diffusion_guidance.images.listing import list_images
from diffusion_guidance.networks.patch_encoder import PatchEncoder


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """An encoder, sharp images, and smooth ones."""
    world, draw = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        PatchEncoder(filters=8).save_pretrained(world / "encoder")
    for side, blur, count in (("photos", 0.3, 40), ("drawn", 0.4, 30)):
        (world / side).mkdir()
        for index in range(count):
            image = Image.fromarray(draw.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            image.filter(ImageFilter.GaussianBlur(blur + index % 5 / 20)).save(world / side / f"{index:02}.png")
    return world


@pytest.fixture
def call(world, capfd):
    def run(*arguments) -> tuple[int, str, str]:
        code = main(["detect", *map(str, arguments), "--encoder", f"local:{world}/encoder", "--batch-size", "16"])
        return code, *capfd.readouterr()

    return run


@pytest.fixture(scope="module")
def measured(world, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    arguments = [str(world / "photos"), str(world / "drawn"), "--encoder", f"local:{world}/encoder", "--out", str(out)]
    assert main(["detect", "measure", *arguments, "--batch-size", "16"]) == 0
    return out


def scores(table) -> np.ndarray:
    with open(table, newline="", encoding="utf-8") as file:
        return np.array([float(row["score"]) for row in csv.DictReader(file)])


def test_every_row_equals_scikit_learn(measured):
    report = json.loads((measured / "report.json").read_text())
    *rows, control = report["rows"]
    assert [row["recoding"] for row in rows] == [*RECODINGS] == ["none", "jpeg 90", "jpeg 75", "jpeg 50", "resize 0.5"]
    pairs = [(f"real-{name}", f"generated-{name}") for name in ("none", "jpeg-90", "jpeg-75", "jpeg-50", "resize-0.5")]
    for row, names in zip([*rows, control], [*pairs, ("real-none", "real-resize-0.5")], strict=True):
        real, other = (scores(measured / f"{name}.csv") for name in names)
        assert (row["real"], row["others"], row["samples"]) == (len(real), len(other), len(real) + len(other))
        truth, found = np.r_[np.ones(len(real)), np.zeros(len(other))], np.r_[real, other]
        assert row["auroc"] == pytest.approx(metrics.roc_auc_score(truth, found), abs=1e-12)
        assert row["average_precision"] == pytest.approx(metrics.average_precision_score(truth, found), abs=1e-12)
        fpr, tpr, _ = metrics.roc_curve(truth, found, drop_intermediate=False)
        assert row["fpr95"] == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-12)
        for name in ("auroc", "average_precision", "fpr95"):
            low, high = row[f"{name}_interval"]
            assert 0 <= low <= row[name] <= high <= 1
    assert control["against real"] == "real, resized"
    meta = report["meta"]
    assert meta["identity"]["encoder"] == "local/encoder"
    assert meta["reading"]["source"].startswith("our reading")
    assert "not the paper's" in meta["cautions"][0]


def test_recoded_images_score_as_the_files_that_pillow_writes(world, measured, call, tmp_path):
    (tmp_path / "jpeg").mkdir()
    for path in sorted((world / "drawn").iterdir()):
        Image.open(path).save(tmp_path / "jpeg" / f"{path.stem}.jpg", quality=75)
    assert call("score", tmp_path / "jpeg", "--out", tmp_path / "jpeg.csv")[0] == 0
    np.testing.assert_array_equal(scores(tmp_path / "jpeg.csv"), scores(measured / "generated-jpeg-75.csv"))
    assert not np.array_equal(scores(tmp_path / "jpeg.csv"), scores(measured / "generated-none.csv"))


def test_the_page_holds_all_and_fetches_nothing(measured):
    report = json.loads((measured / "report.json").read_text())
    page = (measured / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert page.count("<tr>") == 1 + len(report["rows"]) and page.count("data:image/png") == 1
    assert page.count('class="caution"') == len(report["meta"]["cautions"])
    assert f"<td>{report['rows'][0]['auroc']:.3g} [" in page
    assert Image.open(measured / "measure.png").width > 1000
    assert not list_images(measured).files, "what it writes is never a sample"


def test_an_interrupted_run_goes_on_to_the_same_bytes(world, measured, call, tmp_path, monkeypatch):
    arguments = ("measure", world / "photos", world / "drawn", "--out", tmp_path / "out")
    original, batches = detection_job.score_files, 0

    def interrupted(*given):
        nonlocal batches
        for rows in original(*given):
            batches += 1
            if batches == 8:  # in the third table of 3 + 2 + 3 + ... batches
                raise KeyboardInterrupt
            yield rows

    monkeypatch.setattr(detection_job, "score_files", interrupted)
    assert call(*arguments)[0] == INTERRUPTED
    assert {path.name for path in (tmp_path / "out").glob("*.csv")} == {
        *("real-none.csv", "generated-none.csv", "real-jpeg-90.csv")
    }
    assert not (tmp_path / "out" / "report.json").exists()
    assert call(*arguments)[0] == 0
    assert batches == 8 + 1 + 2 + 3 * 5, "what was scored is not scored again"
    for path in measured.iterdir():
        again = (tmp_path / "out" / path.name).read_bytes()
        assert again == path.read_bytes() or path.suffix == ".json", path.name
    first, again = (json.loads((folder / "report.json").read_text()) for folder in (measured, tmp_path / "out"))
    assert first == again


def test_copies_count_once_and_sides_may_not_share_an_image(world, call, tmp_path):
    shutil.copytree(world / "drawn", tmp_path / "drawn")
    for number in range(5):
        shutil.copy(tmp_path / "drawn" / "00.png", tmp_path / "drawn" / f"copy{number}.png")
    Image.open(tmp_path / "drawn" / "01.png").save(tmp_path / "drawn" / "01.bmp")
    (tmp_path / "drawn" / "broken.png").write_text("x")
    arguments = ("measure", world / "photos", tmp_path / "drawn", "--out", tmp_path / "out")
    code, out, err = call(*arguments)
    assert code == PARTLY
    assert "5 files are copies" in err and "not an image in a known format" in err
    assert "caution: 1 of 36 generated images differ in format or size from the real ones (PNG, 1024 pixels)" in err
    assert "| generated | none | 40 | 31 |" in out
    assert call(*arguments, "--skip-errors")[0] == 0
    shutil.copy(world / "photos" / "03.png", tmp_path / "drawn" / "zz.png")
    code, _, err = call(*arguments)
    assert code == 2 and "1 images are real and generated at once, such as" in err


def test_a_score_that_sees_sharpness_alone_is_cautioned(world, call, tmp_path):
    """Every second photo against the others: no side is generated."""
    code, _, err = call("measure", world / "photos/*[02468].png", world / "photos/*[13579].png", "--out", tmp_path)
    (*_, control) = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert code == 0 and "fewer than 30 images" in err
    assert ("are found as well as generated ones" in err) == (control["auroc_interval"][0] > 0.5)
