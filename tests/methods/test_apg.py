import pytest
import torch
from diffusers.guiders import AdaptiveProjectedGuidance

from diffusion_guidance import APG, CFG, DiffIER, GuiderCallback, attach
from diffusion_guidance.methods.apg import apg

from ..tiny import draw_sd3, tiny_sd3
from .exact import flow_times, noise, sample, velocities


def written_out(cond, uncond, average, weight, eta, threshold, momentum):
    """Algorithm 1 of the paper for one sample, in float64, with the guided estimate and the running average."""
    difference = cond - uncond + momentum * average
    average = difference
    norm = difference.pow(2).sum().sqrt()
    if threshold is not None and norm > threshold:
        difference = difference * threshold / norm
    unit = cond / cond.pow(2).sum().sqrt()
    parallel = (difference * unit).sum() * unit
    return cond + (weight - 1) * (difference - parallel + eta * parallel), average


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@pytest.mark.parametrize("shape", [(3, 4, 8, 8), (2, 16, 8), (2, 4, 3, 8, 8)])
@pytest.mark.parametrize(("eta", "threshold"), [(0.0, None), (0.3, 2.0), (1.0, 5.0)])
def test_equals_the_papers_algorithm(shape, eta, threshold):
    cond, uncond = pair(*shape)
    average = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    got, kept = apg(cond, uncond, 6.0, eta, threshold, average, -0.5)
    for k in range(len(cond)):
        given = (tensor[k].double() for tensor in (cond, uncond, average))
        expected, running = written_out(*given, 6.0, eta, threshold, -0.5)
        torch.testing.assert_close(got[k].double(), expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(kept[k].double(), running, atol=1e-6, rtol=1e-6)


def test_in_prediction_space_it_is_the_guider_of_diffusers():
    """Whose scale is the weight minus one in what it calls the original formulation."""
    pipe = tiny_sd3()
    for momentum, threshold in ((-0.5, 3.0), (0.0, 0.0)):
        theirs = AdaptiveProjectedGuidance(
            guidance_scale=5.0,
            adaptive_projected_guidance_momentum=momentum or None,
            adaptive_projected_guidance_rescale=threshold,
            eta=0.2,
            use_original_formulation=True,
        )
        with attach(pipe, GuiderCallback(theirs)):
            expected = draw_sd3(pipe, steps=4)
        with attach(pipe, APG(6.0, 0.2, threshold or None, momentum, space="prediction")):
            got = draw_sd3(pipe, steps=4)
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_in_x0_it_equals_a_loop_with_momentum():
    x, averages = noise().double(), [torch.zeros(6, dtype=torch.float64)] * 5
    for t, s in flow_times(8):
        cond, uncond = (x - t * v for v in velocities(x, t))
        found = [written_out(c, u, a, 4.0, 0.1, 1.5, -0.5) for c, u, a in zip(cond, uncond, averages, strict=True)]
        averages = [average for _, average in found]
        x0 = torch.stack([estimate for estimate, _ in found])
        x = x + (s - t) * (x - x0) / t
    guidance = APG(4.0, 0.1, 1.5, -0.5)
    got, evaluations = sample(guidance, 8)
    torch.testing.assert_close(got.double(), x, atol=1e-5, rtol=0)
    assert evaluations == 0
    assert torch.equal(sample(guidance, 8)[0], got)  # a run starts without momentum


def test_the_two_spaces_differ():
    in_x0, in_prediction = (sample(APG(4.0, space=space))[0] for space in ("x0", "prediction"))
    assert (in_x0 - in_prediction).abs().max() > 1e-2


@pytest.mark.parametrize("space", ["x0", "prediction"])
def test_without_projection_limit_and_momentum_it_is_cfg_to_the_bit(space):
    assert torch.equal(sample(APG(3.0, eta=1.0, momentum=0.0, space=space))[0], sample(CFG(3.0))[0])


def test_a_trial_point_leaves_the_momentum_alone():
    plain = sample(APG(3.0))[0]
    assert torch.equal(sample([APG(3.0), DiffIER(step_size=0.0)])[0], plain)


def test_finite_where_the_predictions_are_zero_or_equal():
    zero = torch.zeros(2, 3)
    for cond, uncond in ((zero, zero), (zero, zero + 1), (zero + 1, zero + 1)):
        assert torch.isfinite(apg(cond, uncond, 5.0, 0.0, 1.0)[0]).all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"weight": float("nan")}, "must be finite"),
        ({"norm_threshold": 0.0}, "None or above 0"),
        ({"space": "eps"}, "x0, prediction"),
    ],
)
def test_bad_settings_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        APG(**arguments)
