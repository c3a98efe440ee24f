"""Every line of the registry is true: the function exists, takes what it needs, and gives the values it names."""

import pytest
import torch

from diffusion_guidance.evaluation import Moments, Reference
from diffusion_guidance.evaluation.metrics.estimate import Estimate
from diffusion_guidance.evaluation.metrics.registry import (
    LABELS,
    LOWER_IS_BETTER,
    MEASURES,
    METRICS,
    NEEDS,
    find_metrics,
)


X, Y = (torch.rand(40, 3, generator=torch.Generator().manual_seed(seed)).double().numpy() for seed in (0, 1))
GIVEN = {
    "parts": [Moments.of(X[:20]), Moments.of(X[20:])],
    "features": X,
    "logits": X,
    "reference": Reference.of(Y),
    "reference_features": Y,
}


def values(name: str, given: dict) -> dict[str, float]:
    metric = METRICS[name]
    found = metric.function(*(given[need] for need in metric.needs))
    found = [found] if isinstance(found, Estimate) else found
    return {estimate.name: estimate.value for estimate in found}


@pytest.mark.parametrize("name", MEASURES)
def test_a_metric_of_sets_gives_its_fields(name):
    assert set(METRICS[name].needs) <= set(NEEDS)
    assert list(values(name, GIVEN)) == list(METRICS[name].fields)


@pytest.mark.parametrize("name", [name for name in MEASURES if "reference" in "".join(METRICS[name].needs)])
def test_the_direction_is_that_of_the_values(name):
    """The reference itself must score better than other samples."""
    same = GIVEN | {"parts": [Moments.of(Y[:20]), Moments.of(Y[20:])], "features": Y}
    far = GIVEN | {"parts": [Moments.of(1 + X[:20] / 9), Moments.of(1 + X[20:] / 9)], "features": 1 + X / 9}
    best, worst = values(name, same), values(name, far)
    for field in METRICS[name].fields:
        assert best[field] < worst[field] if field in LOWER_IS_BETTER else best[field] > worst[field], field


def test_scores_of_images_are_called_with_images_or_with_texts():
    given = {"images": torch.rand(4, 3, 5, 5), "features": torch.ones(4, 3), "texts": torch.ones(4, 3)}
    for metric in METRICS.values():
        if metric.per_image:
            assert metric.function(*(given[need] for need in metric.needs)).shape == (4,)
            assert metric.name in LABELS and metric.name not in MEASURES
    assert {metric.name for metric in METRICS.values() if metric.per_image} >= {"clip_score", "saturation", "contrast"}


def test_another_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown measure fad; known are frechet, kid, neighbours"):
        find_metrics(["frechet", "fad"])
