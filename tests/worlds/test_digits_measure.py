import torch

from diffusion_guidance.worlds import load_digits
from diffusion_guidance.worlds.digits_classifier import DigitsClassifier
from diffusion_guidance.worlds.digits_measure import label, measure, real_features


def test_classes_come_in_rotation():
    assert [label(seed) for seed in range(8, 13)] == [8, 9, 0, 1, 2]


def test_measure_reads_features_and_accuracy():
    images, labels = load_digits()
    judge = DigitsClassifier.from_pretrained("assets/digits-judge").eval()
    chosen = [int((labels == label(seed)).nonzero()[seed]) for seed in range(20)]
    found = measure(judge, images[chosen], range(20))
    assert found["features"].shape == (20, 96)
    assert found["accuracy"].float().mean() >= 0.95
    torch.testing.assert_close(found["features"], real_features(judge)[chosen], atol=1e-5, rtol=1e-5)
