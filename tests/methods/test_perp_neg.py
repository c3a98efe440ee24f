import pytest
import torch

from diffusion_guidance import classifier_free_guidance
from diffusion_guidance.methods.perp_neg import perp_neg


def three(*shape: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for _ in range(3)]


@pytest.mark.parametrize("shape", [(3, 4, 8, 8), (2, 16, 8), (2, 4, 3, 4, 4)])
def test_equals_the_formula_sample_by_sample(shape):
    positive, negative, uncond = three(*shape)
    got = perp_neg(positive, negative, uncond, 7.5, 1.5)
    for k in range(shape[0]):
        e0, pos, neg = uncond[k].double().flatten(), positive[k].double().flatten(), negative[k].double().flatten()
        pos, neg = pos - e0, neg - e0
        perp = neg - pos.dot(neg) / pos.dot(pos) * pos
        assert perp.dot(pos).abs() < 1e-9
        expected = e0 + 7.5 * (pos - 1.5 * perp)
        torch.testing.assert_close(got[k].double().flatten(), expected, atol=1e-5, rtol=1e-5)


def test_a_negative_prompt_along_the_positive_one_does_nothing():
    positive, _, uncond = three(2, 4, 8, 8)
    expected = classifier_free_guidance(positive, uncond, 5.0)
    along = uncond + 0.3 * (positive - uncond)
    torch.testing.assert_close(perp_neg(positive, along, uncond, 5.0, 2.0), expected, atol=1e-5, rtol=1e-5)


def test_weight_0_of_the_negative_is_classifier_free_guidance():
    positive, negative, uncond = three(2, 4, 8, 8)
    expected = classifier_free_guidance(positive, uncond, 5.0)
    torch.testing.assert_close(perp_neg(positive, negative, uncond, 5.0, 0.0), expected, atol=1e-6, rtol=1e-6)


def test_finite_without_a_direction_and_in_half_precision():
    positive, negative, _ = (tensor.half() for tensor in three(2, 4))
    out = perp_neg(positive, negative, positive, 5.0)
    assert out.dtype == torch.float16 and torch.isfinite(out).all()
