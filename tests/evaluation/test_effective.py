import numpy as np
import pytest
import torch

from diffusion_guidance import APG, CFG, AdaptiveGuidance, DiffIER, GuidanceInterval
from diffusion_guidance.evaluation.effective import EffectiveWeight, weight_estimate

from ..methods.exact import flow_times, noise, sample, velocities


def weights(guidance, weight: float = 2.0) -> torch.Tensor:
    observer = EffectiveWeight()
    sample([*guidance, observer], 8, weight)
    (found,) = observer.take().values()
    assert observer.take() == {}
    return found


def test_plain_guidance_has_its_weight():
    torch.testing.assert_close(weights([CFG(3.0)]), torch.full((5,), 3.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        weights([lambda step, proceed: proceed(step)], 4.0), torch.full((5,), 4.0), atol=1e-5, rtol=0
    )


def test_equals_least_squares_over_the_trajectory():
    x, given, asked = noise().double(), [], []
    for k, (t, s) in enumerate(flow_times(8)):
        cond, uncond = velocities(x, t)
        p = uncond + (1.5, 4.0)[k % 2] * (cond - uncond)
        given.append(cond - uncond)
        asked.append(p - uncond)
        x = x + (s - t) * p
    given, asked = torch.cat(given, 1), torch.cat(asked, 1)
    expected = [torch.linalg.lstsq(a[:, None], b[:, None]).solution.item() for a, b in zip(given, asked, strict=True)]
    found = weights([CFG([1.5, 4.0] * 4)])
    torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), atol=1e-4, rtol=0)


def test_steps_without_the_pass_count_with_weight_1():
    limited = weights([CFG(3.0), AdaptiveGuidance(None, after=0.5)])
    assert (limited < 3 + 1e-5).all() and limited.min() < 2.95
    assert weights([CFG(3.0), GuidanceInterval(0.5, 3.0)]).max() < 3


def test_what_is_asked_elsewhere_does_not_count():
    assert (weights([CFG(3.0), DiffIER(step_size=0.0)]) - 3).abs().max() < 1e-5
    assert (weights([APG(3.0)]) < 3).all()


def test_a_pipeline_without_the_pass_has_none():
    observer = EffectiveWeight()
    sample([observer], 3, weight=1.0)
    assert observer.take() == {}


def test_the_mean_leaves_out_what_is_not_finite_and_says_so():
    (estimate,) = weight_estimate(np.array([1.0, 3.0, np.nan]))
    assert (estimate.value, estimate.samples) == (2.0, 2) and estimate.warning.startswith("1 of 3 images")
    assert weight_estimate(np.array([1.0, 3.0]))[0].warning is None
    assert weight_estimate(np.array([np.nan])) == []


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_equal_predictions_count_as_1(weight):
    class Equal:
        elsewhere, has_unconditional = False, True
        cond = uncond = torch.ones(2, 3)

    observer = EffectiveWeight()
    observer(Equal, lambda step: step.cond * weight)
    assert observer.take()["effective_weight"].tolist() == [1.0, 1.0]
