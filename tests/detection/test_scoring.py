"""Scoring files: the same whatever the batch, order and workers; no more in memory for more files."""

import random
import threading
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_guidance.detection import scoring
from diffusion_guidance.detection.rigid import Detector
from diffusion_guidance.detection.scoring import DIGITS, batched, score_files
from diffusion_guidance.images.listing import list_files
from diffusion_guidance.images.reading import DecodedImage, read_image
from diffusion_guidance.networks.encoders import Encoder
from diffusion_guidance.networks.patch_encoder import PatchEncoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """70 images of many sizes, and two broken files."""
    folder, draw = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for index in range(70):
        size = draw.integers(8, 90, 2)
        Image.fromarray(draw.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / f"{index:02}.png")
    (folder / "30x.png").write_bytes(b"broken")
    (folder / "50x.png").touch()
    return folder


@pytest.fixture(scope="module")
def detector():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = PatchEncoder(filters=8).eval()
    return Detector(Encoder("tiny", network, network.transform()), draws=2)


def scores(detector, paths, size: int, workers: int) -> dict[str, float]:
    rows = [row for rows in score_files(detector, batched(paths, size), workers) for row in rows]
    assert [row["path"] for row in rows] == list(paths)  # the order given
    return {row["path"]: row["score"] for row in rows}


def test_scores_are_those_of_the_detector(folder, detector):
    """Each image by itself, through `Detector.score` from its whole pixels."""
    for path, score in scores(detector, list(list_files([folder])), 64, 3).items():
        if "x" in path.rpartition("/")[2]:
            assert score is None
        else:
            alone = detector.score(read_image(path).pixels[None] / 255)
            assert abs(score - float(alone)) < 1.5 * 10**-DIGITS


def test_batch_order_and_workers_do_not_matter(folder, detector):
    paths = list(list_files([folder]))
    shuffled = random.Random(0).sample(paths, len(paths))
    once = scores(detector, paths, 64, 2)
    assert scores(detector, paths, 64, 2) == once  # to the bit
    assert scores(detector, paths, 64, 1) == once  # workers change no batch
    assert scores(detector, paths, 64, 7) == once
    assert len(set(once.values())) > 60
    for other in (scores(detector, paths, 1, 2), scores(detector, shuffled, 64, 2), scores(detector, shuffled, 5, 3)):
        for path, score in once.items():
            assert score == pytest.approx(other[path], abs=1.5 * 10**-DIGITS)  # rounding of kernels: one last digit


def test_reasons_are_rows(folder, detector):
    rows = [row for rows in score_files(detector, batched(list_files([folder]), 8)) for row in rows]
    assert {row["path"][-7:]: row["error"] for row in rows if row["error"]} == {
        "30x.png": "not an image in a known format",
        "50x.png": "an empty file",
    }
    good = rows[0]
    assert (good["width"], good["height"], good["format"]) == (*Image.open(good["path"]).size, "PNG")


def test_a_score_that_is_no_number_is_an_error(folder, detector):
    broken = Encoder("nan", lambda images: images.flatten(1)[:, :4] * torch.nan, detector.encoder.transform)
    rows = next(score_files(Detector(broken), batched(list_files([folder]), 8)))
    assert {row["error"] for row in rows} == {"the encoder's features give a score of nan"}
    assert {row["score"] for row in rows} == {None}


class Alive:
    """Counts tensors; `most` is the highest number alive at one time."""

    def __init__(self):
        self.now, self.most, self.lock = 0, 0, threading.RLock()

    def add(self, tensor):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        weakref.finalize(tensor.untyped_storage(), self.gone)
        return tensor

    def gone(self):
        with self.lock:
            self.now -= 1


class Counting:
    """A detector that counts its inputs."""

    calibration = None

    def __init__(self):
        self.inputs, self.largest = Alive(), 0

    def prepare(self, images):
        return self.inputs.add(images.mean((1, 2, 3), keepdim=True)), torch.zeros(1, dtype=torch.int64)

    def score_prepared(self, inputs, seeds):
        self.largest = max(self.largest, len(inputs))
        return inputs.flatten()


def test_two_thousand_files_take_no_more_than_a_hundred(folder, monkeypatch):
    """Paths come from a generator; alive are two batches of inputs, and one whole image for each worker."""
    path, taken, images = str(folder / "00.png"), 0, Alive()

    def read(*_) -> DecodedImage:
        return DecodedImage(images.add(torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2)), "PNG")

    monkeypatch.setattr(scoring, "read_image", read)

    def paths(count: int):
        nonlocal taken
        for _ in range(count):
            taken += 1
            yield path

    for count in (100, 2000):
        detector, taken, got = Counting(), 0, 0
        for rows in score_files(detector, batched(paths(count), 10), workers=3):
            got += len(rows)
            assert taken <= got + 10
        assert got == count
        assert detector.largest == 10
        assert detector.inputs.most <= 20
        assert images.most <= 3
        assert detector.inputs.now == images.now == 0


def test_a_run_that_is_left_early_ends(folder, detector):
    running = score_files(detector, batched(list_files([folder]), 8), workers=2)
    next(running)
    running.close()
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name and thread.is_alive()]
