from pathlib import Path

import pytest
import torch

from diffusion_guidance.worlds import Scenes, ShapesClassifier, aligned


ASSETS = Path(__file__).parents[2] / "assets"


@pytest.fixture(scope="module")
def classifier():
    return ShapesClassifier.from_pretrained(ASSETS / "shapes-classifier").eval()


@pytest.fixture(scope="module")
def scenes():
    return Scenes.sample(400, torch.Generator().manual_seed(99))


@torch.no_grad()
def test_clean_scenes_are_read_without_mistakes(classifier, scenes):
    right = classifier.read(scenes.render()) == scenes.attributes()
    assert right.all(1).float().mean() > 0.99


@torch.no_grad()
def test_alignment_notices_every_wrong_attribute(classifier, scenes):
    images, captions = scenes.render(), scenes.captions()
    assert aligned(classifier, images, captions).float().mean() > 0.99
    shifted = captions[1:] + captions[:1]
    assert aligned(classifier, images, shifted).float().mean() < 0.02
    recoloured = [text.replace("red", "blue") for text in captions]
    changed = torch.tensor([old != new for old, new in zip(captions, recoloured, strict=True)])
    assert not aligned(classifier, images, recoloured)[changed].any()


@torch.no_grad()
def test_features_are_of_the_configured_width(classifier, scenes):
    assert classifier.features(scenes.render()[:5]).shape == (5, classifier.config.width)


def test_wrong_input_is_refused(classifier):
    with pytest.raises(ValueError, match=r"\(B, 3, 32, 32\)"):
        classifier.read(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="1 images but 2 captions"):
        aligned(classifier, torch.zeros(1, 3, 32, 32), ["a", "b"])
