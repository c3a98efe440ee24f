"""Scores of single images equal torch-fidelity and torchmetrics, and closed forms."""

import numpy as np
import pytest
import torch

from diffusion_guidance.evaluation import clip_score, inception_score, inception_score_estimate


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_inception_score_equals_torch_fidelity():
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 2 * random(203, 10)
    theirs = isc_features_to_metric(logits, splits=7, shuffle=False)
    ours = inception_score(logits, splits=7)
    assert ours.mean() == pytest.approx(theirs["inception_score_mean"], rel=1e-10)
    assert ours.std() == pytest.approx(theirs["inception_score_std"], rel=1e-8)


def test_inception_score_closed_forms_and_warning():
    certain = torch.eye(5).repeat(40, 1) * 500
    assert inception_score(certain, splits=4) == pytest.approx(5)
    assert inception_score(torch.zeros(20, 5), splits=2) == pytest.approx(1)
    assert "rule: 50 a class a split" in inception_score_estimate(certain, splits=4).warning
    plenty = inception_score_estimate(certain.repeat(5, 1), splits=4)
    assert plenty.warning is None
    assert plenty.interval == pytest.approx((5, 5))
    assert inception_score_estimate(certain, splits=1).interval is None
    with pytest.raises(ValueError, match="cannot be split into 21"):
        inception_score(torch.zeros(20, 5), splits=21)


def test_clip_score():
    images, texts = random(32, 8), random(32, 8).flip(0)
    cosine = [
        np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(images.numpy(), texts.numpy(), strict=True)
    ]
    expected = 100 * np.maximum(cosine, 0)
    np.testing.assert_allclose(clip_score(images, texts), expected, atol=1e-4)
    assert 0 < (expected == 0).sum() < 32
    with pytest.raises(ValueError, match="one shape"):
        clip_score(images, texts[:, 1:])
