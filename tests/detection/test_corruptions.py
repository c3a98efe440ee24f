"""Figures of detection against scikit-learn, and corruptions against Pillow, scipy and closed forms."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics

from diffusion_guidance.detection.corruptions import (
    CORRUPTIONS,
    METRICS,
    auroc,
    average_precision,
    corrupt,
    detection_figures,
    encoded,
    fpr_at_tpr,
)


def sides(real: int, fake: int, digits: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(real + fake)
    return rng.normal(0.5, 1, real).round(digits), rng.normal(0, 1, fake).round(digits)


@pytest.mark.parametrize("digits", [6, 1, 0])  # the fewer, the more ties
@pytest.mark.parametrize(("real", "fake"), [(40, 50), (7, 3), (1, 1), (300, 20)])
def test_metrics_equal_scikit_learn(real, fake, digits):
    high, low = sides(real, fake, digits)
    truth, scores = np.r_[np.ones(real), np.zeros(fake)], np.r_[high, low]
    assert auroc(high, low) == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-12)
    assert average_precision(high, low) == pytest.approx(metrics.average_precision_score(truth, scores), abs=1e-12)
    fpr, tpr, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert fpr_at_tpr(high, low) == pytest.approx(fpr[np.argmax(tpr >= 0.95)], abs=1e-12)


def test_degenerate_sides():
    one, zero = np.ones(20), np.zeros(30)
    assert [metric(one, zero) for metric in METRICS.values()] == [1, 1, 0]
    assert auroc(zero, one) == 0
    assert fpr_at_tpr(zero, one) == 1
    assert auroc(one, one) == 0.5


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    truth, hits = 0.638163, 0  # Phi(0.5 / sqrt(2)), the AUROC of two normal distributions half a deviation apart
    for seed in range(60):
        rng = np.random.default_rng(seed)
        figure = detection_figures(rng.normal(0.5, 1, 80), rng.normal(0, 1, 80), draws=100)[0]
        hits += figure.interval[0] <= truth <= figure.interval[1]
    assert 50 <= hits < 60
    first, again = (detection_figures(*sides(30, 30, 6), draws=50) for _ in range(2))
    assert first == again
    assert [figure.name for figure in first] == ["auroc", "average_precision", "fpr95"]


def test_errors():
    for wrong in ([], [float("nan")], [[1.0]]):
        with pytest.raises(ValueError, match="one finite number per image"):
            detection_figures(torch.tensor(wrong), torch.ones(3))
    with pytest.raises(ValueError, match="unknown corruption 'x'"):
        corrupt(torch.rand(1, 3, 8, 8), "x")


def photograph() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_encoding_equals_pillow():
    images = photograph()
    torch.testing.assert_close(encoded(images, "PNG"), (images * 255).round() / 255)
    found = corrupt(images, "jpeg 75")
    for image, expected in zip(images, found, strict=True):
        file = io.BytesIO()
        Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)).save(file, "JPEG", quality=75)
        np.testing.assert_array_equal(np.asarray(Image.open(file)), (expected.permute(1, 2, 0) * 255).round().numpy())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_leaves_8_bit_images_and_depends_on_the_image_alone(name):
    images = photograph()
    found = corrupt(images, name)
    torch.testing.assert_close((found * 255).round() / 255, found)
    assert found.min() >= 0
    assert found.max() <= 1
    torch.testing.assert_close(torch.cat([corrupt(image[None], name) for image in images]), found, rtol=0, atol=4e-3)
    side = {"crop": round(32 * CORRUPTIONS[name][1])}.get(CORRUPTIONS[name][0], 32)
    assert found.shape == (2, 3, side, side)
    changed = name != "none"
    assert (found[..., :side, :side] - images[..., :side, :side]).abs().mean().gt(3e-3).item() == changed


def test_corruptions_do_what_they_say():
    images = photograph() * 0.4 + 0.3  # so that noise is not cut off
    noise = corrupt(images, "noise 0.03") - images
    assert noise.std().item() == pytest.approx(0.03, rel=0.05)
    torch.testing.assert_close(corrupt(images, "crop 0.75"), (images[..., 4:28, 4:28] * 255).round() / 255)
    ramp = torch.linspace(0.2, 0.8, 32).expand(1, 3, 32, 32)
    for name in ("blur 1.0", "resize 0.5"):  # both leave a ramp alone, away from its ends
        torch.testing.assert_close(corrupt(ramp, name)[..., 4:-4], ramp[..., 4:-4], rtol=0, atol=3e-3)
