"""The formula against a rewrite per token, in float64."""

import pytest
import torch

from diffusion_guidance.methods.nag.normalized import normalized_attention


def rewritten(positive, negative, scale, tau, alpha):
    result = torch.empty_like(positive)
    for sample in range(positive.shape[0]):
        for token in range(positive.shape[1]):
            z, other = positive[sample, token], negative[sample, token]
            guided = scale * z - (scale - 1) * other
            ratio = guided.abs().sum() / z.abs().sum()
            guided = guided * min(ratio, tau) / ratio
            result[sample, token] = alpha * guided + (1 - alpha) * z
    return result


@pytest.mark.parametrize("tau", [0.5, 2.5, 1e6])
def test_equals_the_rewrite(tau):
    positive, negative = torch.randn(2, 2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = normalized_attention(positive, negative, 5.0, tau, 0.3)
    assert torch.allclose(found, rewritten(positive, negative, 5.0, tau, 0.3), rtol=1e-12)


def test_neutral_settings_are_the_positive_to_the_bit():
    positive, negative = torch.randn(2, 2, 5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(normalized_attention(positive, negative, scale=1.0), positive)
    assert torch.equal(normalized_attention(positive, negative, alpha=0.0), positive)
    assert torch.equal(normalized_attention(positive, positive), positive)


def test_nothing_found_stays_nothing_and_half_precision_does_not_overflow():
    assert torch.equal(normalized_attention(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3)), torch.zeros(1, 2, 3))
    large = torch.full((1, 1, 4096), 50.0, dtype=torch.float16)
    assert normalized_attention(large, -large).isfinite().all()


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="shape"):
        normalized_attention(torch.zeros(1, 2, 3), torch.zeros(1, 3, 3))
