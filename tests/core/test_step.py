import pytest
import torch

from diffusion_guidance import CFG, attach

from ..gaussian import GaussianPipeline


@pytest.fixture
def pipe():
    # Wide enough that the two predictions differ at every noise level.
    return GaussianPipeline(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).double(), spread=1.0)


def run(pipe, guidance, weight: float = 2.5):
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).double()
    with attach(pipe, guidance):
        return pipe([0, 1, 2], noise, num_inference_steps=5, guidance_scale=weight).images


def test_the_estimates_are_those_of_the_mixture(pipe):
    """x0 of the conditional prediction is the posterior mean, and eps completes the sample."""

    def check(step, proceed):
        x0, eps = step.to_x0(step.cond), step.to_eps(step.cond)
        variance = (1 - step.sigma) ** 2 * pipe.transformer.spread**2 + step.sigma**2
        mean = pipe.transformer.means
        offset = step.sample - (1 - step.sigma) * mean
        exact = mean + (1 - step.sigma) * pipe.transformer.spread**2 / variance * offset
        torch.testing.assert_close(x0, exact.float(), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(step.alpha * x0 + step.sigma * eps, step.sample.float(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(step.from_x0(x0), step.cond.float(), atol=1e-3, rtol=1e-4)
        return proceed(step)

    run(pipe, check)


def test_the_network_elsewhere_is_the_exact_velocity_there(pipe):
    def check(step, proceed):
        place, labels = step.sample + 0.1, torch.tensor([0, 1, 2])
        for time in (step.timestep, torch.tensor(321.0)):
            cond, uncond = step.denoise(place, time)
            times = time.expand(3)
            torch.testing.assert_close(cond, pipe.transformer(place, times, labels)[0])
            torch.testing.assert_close(uncond, pipe.transformer(place, times, torch.full((3,), 3))[0])
        moved = step.at(place, timestep=torch.tensor(321.0))
        torch.testing.assert_close(moved.sigma, torch.tensor(0.321))
        # The chain's end knows the pipeline's weight there too, though the pipeline keeps it to itself.
        expected = moved.uncond + 2.5 * (moved.cond - moved.uncond)
        torch.testing.assert_close(proceed(moved), expected, atol=1e-4, rtol=1e-4)
        return proceed(step)

    run(pipe, check)


def test_the_next_point_of_the_grid(pipe):
    def check(step, proceed):
        if step.index + 1 < step.total:
            following = step.at(step.sample, index=step.grid_index + 1)
            assert following.timestep == pipe.scheduler.timesteps[step.index + 1]
            assert following.sigma < step.sigma
            assert (following.index, following.ahead) == (step.index, 1)
            assert following.at(step.sample, index=step.grid_index).ahead == 0
            assert following.at(step.sample, timestep=following.timestep).ahead == 1
            assert following.at(step.sample, timestep=torch.tensor(321.0)).ahead == 0
        return proceed(step)

    run(pipe, check)


def test_the_weight_is_recovered_from_what_the_pipeline_combined(pipe):
    weights = []
    run(pipe, lambda step, proceed: weights.append(step.pipeline_weight) or proceed(step), weight=3.25)
    # Not at the last steps, where the two predictions are equal except for float32 rounding.
    torch.testing.assert_close(torch.stack(weights)[:3], torch.full((3, 3), 3.25), atol=1e-3, rtol=0)


def test_equal_predictions_have_weight_one(pipe):
    pipe.transformer.means = pipe.transformer.means[:1].repeat(3, 1)
    weights = []
    run(pipe, lambda step, proceed: weights.append(step.pipeline_weight) or proceed(step))
    torch.testing.assert_close(torch.stack(weights), torch.ones(5, 3))


def test_a_place_is_one_of_the_grid_or_a_time_and_of_the_right_shape(pipe):
    def check(step, proceed):
        with pytest.raises(ValueError, match="give either index"):
            step.at(step.sample)
        with pytest.raises(ValueError, match="give either index"):
            step.at(step.sample, index=0, timestep=step.timestep)
        with pytest.raises(ValueError, match=r"sample has shape \(2, 4\), expected \(3, 4\)"):
            step.at(step.sample[:2], index=0)
        return proceed(step)

    run(pipe, [CFG(2.0), check])


def test_a_step_that_is_over_cannot_evaluate_the_network(pipe):
    kept = []
    run(pipe, lambda step, proceed: kept.append(step) or proceed(step))
    with pytest.raises(RuntimeError, match="only while the pipeline is in the step"):
        kept[0].denoise(kept[0].sample, kept[0].timestep)
