from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion_guidance.evaluation import frechet_distance
from diffusion_guidance.worlds.subjects import load_subject


ASSETS = Path(__file__).parents[2] / "assets"


@pytest.mark.parametrize(("world", "figure", "condition"), [("shapes", "alignment", str), ("digits", "accuracy", int)])
def test_a_world_is_a_subject(world, figure, condition):
    subject = load_subject(world, ASSETS, scenes=50)
    assert isinstance(subject.condition(3), condition)
    size = (3, 32, 32) if world == "shapes" else (1, 8, 8)
    found = subject.measure(torch.rand(2, *size), [0, 1])
    assert set(found) == {"features", figure}
    assert found["features"].shape[1] == subject.reference.mean.shape[0]


def test_the_reference_of_shapes_is_stored_or_drawn():
    stored, drawn = load_subject("shapes", ASSETS).reference, load_subject("shapes", ASSETS, scenes=1000).reference
    assert (stored.count, stored.features) == (20_000, None)
    assert drawn.features.shape == (1000, len(stored.mean))
    assert frechet_distance(stored, drawn) < 0.1  # next to the variances of the features, which sum to more than 3
    assert np.trace(stored.covariance) > 3
    assert load_subject("shapes", ASSETS, reference=drawn).reference is drawn


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(ValueError, match="no world"):
        load_subject("moons", ASSETS)
    with pytest.raises(ValueError, match=r"training\.digits"):
        load_subject("digits", tmp_path)
