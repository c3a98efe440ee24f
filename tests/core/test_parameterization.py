import pytest
import torch

from diffusion_guidance.core.parameterization import PREDICTION_TYPES, from_x0, to_x0


# (alpha, sigma) of a variance-preserving, a variance-exploding and a flow sample.
LEVELS = [(0.8, 0.6), (1.0, 3.0), (0.25, 0.75)]


def case(alpha: float, sigma: float):
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 3, 4, 4, generator=generator), torch.randn(2, 3, 4, 4, generator=generator)
    norm = (alpha**2 + sigma**2) ** 0.5
    targets = {
        "epsilon": eps,
        "sample": x0,
        "v_prediction": (alpha * eps - sigma * x0) / norm,  # of the sample scaled to unit variance
        "flow_prediction": eps - x0,
    }
    return x0, alpha * x0 + sigma * eps, targets, torch.tensor(alpha), torch.tensor(sigma)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", PREDICTION_TYPES)
def test_the_target_of_training_gives_back_x0_and_the_other_way(kind, level):
    x0, sample, targets, alpha, sigma = case(*level)
    torch.testing.assert_close(to_x0(targets[kind], sample, alpha, sigma, kind), x0, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(from_x0(x0, sample, alpha, sigma, kind), targets[kind], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["v_prediction", "flow_prediction", "sample"])
def test_pure_noise_is_no_division_by_zero(kind):
    _, sample, targets, alpha, sigma = case(0.0, 1.0)
    assert torch.isfinite(to_x0(targets[kind], sample, alpha, sigma, kind)).all()


def test_half_precision_is_computed_in_float32():
    x0, sample, targets, alpha, sigma = case(0.8, 0.6)
    out = to_x0(targets["epsilon"].half(), sample.half(), alpha, sigma, "epsilon")
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, x0, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize("convert", [to_x0, from_x0])
def test_an_unknown_prediction_type_lists_the_known(convert):
    with pytest.raises(ValueError, match="unknown prediction type 'score'; known are epsilon"):
        convert(torch.zeros(1), torch.zeros(1), torch.ones(()), torch.ones(()), "score")
