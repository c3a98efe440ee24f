import pytest
import torch

from diffusion_guidance.worlds import load_digits
from diffusion_guidance.worlds.digits_classifier import DigitsClassifier


@pytest.mark.parametrize("name", ["digits-classifier", "digits-judge"])
def test_the_shipped_classifiers_read_held_out_digits(name):
    images, labels = load_digits("test")
    model = DigitsClassifier.from_pretrained(f"assets/{name}").eval()
    with torch.no_grad():
        assert (model(images * 2 - 1).argmax(-1) == labels).float().mean() > 0.98


def test_a_wrong_shape_is_named():
    with pytest.raises(ValueError, match="8, 8"):
        DigitsClassifier()(torch.zeros(1, 3, 8, 8))
