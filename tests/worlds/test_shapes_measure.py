"""What is measured in the shapes world is right for true scenes, and belongs to the seed alone."""

from pathlib import Path

import pytest
import torch

from diffusion_guidance.worlds import Scenes, ShapesClassifier
from diffusion_guidance.worlds.shapes_measure import caption, measure, real_features


@pytest.fixture(scope="module")
def classifier() -> ShapesClassifier:
    return ShapesClassifier.from_pretrained(Path(__file__).parents[2] / "assets" / "shapes-classifier").eval()


def test_true_scenes_are_aligned_and_others_are_not(classifier):
    seeds = range(40)
    scenes = [Scenes.sample(1, torch.Generator().manual_seed(2**40 + seed)) for seed in seeds]
    assert [scene.captions()[0] for scene in scenes] == [caption(seed) for seed in seeds]
    images = torch.cat([scene.render() for scene in scenes])
    arrays = measure(classifier, images, seeds)
    assert arrays["alignment"].float().mean() > 0.9
    assert measure(classifier, images.flip(0), seeds)["alignment"].float().mean() < 0.1
    with torch.no_grad():
        torch.testing.assert_close(arrays["features"], classifier.features(images))


def test_real_features_do_not_depend_on_the_parts(classifier):
    features = real_features(classifier, 510)
    scenes = Scenes.sample(510, torch.Generator().manual_seed(2**41))
    with torch.no_grad():
        torch.testing.assert_close(features, classifier.features(scenes.render()), rtol=1e-4, atol=1e-5)
