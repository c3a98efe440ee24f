import pytest
import torch

from diffusion_guidance import CFG, WeightFit, fit_weight

from ..gaussian import GaussianPipeline
from .exact import LABELS, MEANS, SPREAD, flow_times, velocities


WEIGHTS = (1.5, 3.0, 5.0)
STEPS = 6


def draw(pipe, number: int):
    noise = torch.randn(len(LABELS), MEANS.shape[1], generator=torch.Generator().manual_seed(number))
    return pipe(LABELS, noise, STEPS, 2.0)


def written_out(weight: float, number: int, conditional: bool) -> torch.Tensor:
    """(B,) mean squared distance of each step's prediction to the guided one of the next, summed, in float64."""
    noise = torch.randn(len(LABELS), MEANS.shape[1], generator=torch.Generator().manual_seed(number))
    x, total, before = noise.double(), torch.zeros(len(LABELS), dtype=torch.float64), None
    for t, s in flow_times(STEPS):
        cond, uncond = velocities(x, t)
        guided = uncond + weight * (cond - uncond)
        now = cond if conditional else guided
        if before is not None:
            total += (now - before).square().mean(1)
        before, x = guided, x + (s - t) * guided
    return total


def test_the_errors_are_those_of_the_loop_written_out():
    pipe = GaussianPipeline(MEANS, SPREAD)
    found = fit_weight(pipe, lambda number: draw(pipe, number), WEIGHTS[::-1], runs=2)
    assert found.weights == sorted(WEIGHTS)
    for index, weight in enumerate(found.weights):
        expected = torch.cat([written_out(weight, number, False) for number in range(2)])
        torch.testing.assert_close(found.errors[index].double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("errors", "weight", "said"),
    [
        ([3.0, 1.0, 2.0], 3.0, "is least at weight 3."),
        ([1.0, 2.0, 3.0], 1.5, "at the smallest weight, 1.5: there is no minimum among these"),
        ([3.0, 2.0, 1.0], 5.0, "at the largest weight, 5: there is no minimum among these"),
    ],
)
def test_it_says_whether_there_is_a_minimum(errors, weight, said, tmp_path):
    values = torch.tensor(errors)[:, None].expand(3, 4)
    found = WeightFit(WEIGHTS, values, 2 * values)
    assert found.weight == weight and isinstance(found.callback, CFG) and found.callback.weight == weight
    assert said in str(found) and found.is_inside == (weight == 3.0)
    assert found.plot(tmp_path / "weights.png").stat().st_size > 1000


def test_bad_settings_are_refused():
    pipe = GaussianPipeline(MEANS, SPREAD)
    with pytest.raises(ValueError, match="runs must be at least 1, got 0"):
        fit_weight(pipe, {}, WEIGHTS, runs=0)
    for weights in ([2.0, 2.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="two or more finite weights"):
            fit_weight(pipe, {}, weights)
