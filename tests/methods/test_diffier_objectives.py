"""DiffIER by the gradient through the network, and by the projection of CFG-MP, against loops written out here."""

import itertools

import pytest
import torch

from diffusion_guidance import CFG, DiffIER, ManifoldProjection, Trace, attach

from ..gaussian import GaussianPipeline
from ..tiny import draw_sd3, tiny_sd3
from .exact import LABELS, MEANS, SPREAD, flow_times, noise, noise_network, sample, velocities


OBJECTIVES = DiffIER.words["objective"]


def guided(x: torch.Tensor, t: float, weight: float) -> torch.Tensor:
    cond, uncond = velocities(x, t)
    return uncond + weight * (cond - uncond)


@pytest.mark.parametrize(("iterations", "step_size"), [(1, 0.4), (3, 0.2)])
def test_gradient_equals_descent_by_jacobians(iterations, step_size):
    """p <- p - a (I - h J)^T (p - v(x + h p)), with J the Jacobian of the guided velocity of all samples at once."""
    x = noise().double()
    for t, s in flow_times(6):
        p, h = guided(x, t, 2.5), s - t
        for _ in range(iterations if s > 0 else 0):
            point = x + h * p
            jacobian = torch.func.jacfwd(lambda y, s=s: guided(y, s, 2.5))(point).reshape(x.numel(), x.numel())
            rest = p - guided(point, s, 2.5)
            p = p - step_size * (rest - h * (jacobian.T @ rest.flatten()).reshape(x.shape))
        x = x + h * p
    got, evaluations = sample([CFG(2.5), DiffIER(iterations, step_size, objective="gradient")], 6)
    assert (got.double() - x).abs().max() < 1e-5 * x.abs().max()
    assert evaluations == iterations * 5


def test_gradient_lowers_the_error_of_samples_where_the_fixed_point_iteration_raises_it():
    """Between modes the map to the next prediction has a slope above 1: no step size is small enough for "pair"."""
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    risen = {}
    for objective in ("pair", "gradient"):
        pipe, trace = GaussianPipeline(MEANS), Trace(error=True)
        with attach(pipe, [CFG(0.0), DiffIER(1, 0.02, objective=objective, stop=0.25), trace]):
            pipe([0] * 64, x, 4, 2.0)
        found = trace.to_dict()
        risen[objective] = (found["error"][1] > found["trial_error"][0]).sum().item()
    assert risen["pair"] > 5 and risen["gradient"] == 0


def test_a_turned_off_iteration_changes_nothing_to_the_bit_and_still_measures():
    plain, _ = sample(CFG(2.5))
    for objective, cost in zip(OBJECTIVES, (14, 14, 14, 21), strict=True):  # in seven steps
        trace = Trace()
        got, evaluations = sample([CFG(2.5), DiffIER(2, 0.0, objective=objective), trace])
        assert torch.equal(got, plain)
        assert evaluations == cost
        assert (trace.to_dict()["trial_error"][:-1] > 0).all()


def test_gradient_is_a_sample_s_own():
    """The sum over the batch has each sample's gradient; nothing of it stays in the result."""
    pipe = GaussianPipeline(MEANS, SPREAD)
    with attach(pipe, [CFG(2.5), DiffIER(2, 0.3, objective="gradient", tolerance=0.0)]):
        together = pipe(LABELS, noise(), 5, 2.0).images
        alone = pipe(LABELS[3:4], noise()[3:4], 5, 2.0).images
    assert not together.requires_grad
    torch.testing.assert_close(together[3:4], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("objective", "used"), [("gradient", 4), ("pair", 3)])
def test_activations_are_computed_again_and_the_network_is_as_before(objective, used):
    pipe, calls = tiny_sd3(), []
    pipe.transformer.requires_grad_(True)
    block = pipe.transformer.transformer_blocks[0]
    block.register_forward_pre_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    plain = draw_sd3(pipe, steps=2)
    calls.clear()
    with attach(pipe, DiffIER(objective=objective, step_size=0.0)):
        assert torch.equal(draw_sd3(pipe, steps=2), plain)
    assert len(calls) == used and any(calls) == (objective == "gradient")
    assert all(weight.requires_grad and weight.grad is None for weight in pipe.transformer.parameters())
    assert not pipe.transformer.is_gradient_checkpointing


def test_gradient_is_the_same_with_activations_kept(monkeypatch):
    pipe, guide = tiny_sd3(), DiffIER(objective="gradient", step_size=0.1)
    with attach(pipe, guide):
        again = draw_sd3(pipe, steps=2)
        monkeypatch.setattr(type(pipe.transformer), "_supports_gradient_checkpointing", False)
        kept = draw_sd3(pipe, steps=2)
    torch.testing.assert_close(again, kept, atol=1e-6, rtol=1e-6)


def test_gradient_is_refused_where_none_flows():
    pipe = tiny_sd3()
    with attach(pipe, DiffIER(objective="gradient")):
        with torch.inference_mode(), pytest.raises(ValueError, match=r"SD3Transformer2DModel.*outside of torch.infer"):
            draw_sd3(pipe)
        assert not pipe.transformer.is_gradient_checkpointing
    with torch.inference_mode():
        pipe = tiny_sd3()
    with attach(pipe, DiffIER(objective="gradient")), pytest.raises(ValueError, match="SD3Transformer2DModel, and no"):
        draw_sd3(pipe)
    pipe = GaussianPipeline(MEANS, SPREAD)
    pipe.transformer.register_forward_hook(lambda module, given, output: (output[0].detach(),))
    with attach(pipe, DiffIER(objective="gradient")), pytest.raises(ValueError, match="GaussianVelocity, and no grad"):
        pipe(LABELS, noise(), 4, 2.0)


def test_manifold_with_whole_moves_is_cfg_mp():
    """In the steps above its threshold, which `stop` gives here; the window of three points included."""
    active = sum(t > 0.6 for t, _ in flow_times(8))
    got, evaluations = sample([CFG(2.5), DiffIER(3, 1.0, objective="manifold", stop=active / 8)])
    expected, same = sample([CFG(2.5), ManifoldProjection(3)])
    assert torch.equal(got, expected) and evaluations == same == 6 * active


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_manifold_of_noise_equals_a_loop_in_scaled_noise(prediction_type):
    """In y = x / alpha and r = sigma / alpha, where the sampler's step is y <- y + dr eps; two damped moves."""
    draw, eps, levels = noise_network(5, prediction_type)
    first, got = draw([CFG(2.0), DiffIER(1, 0.7, objective="manifold")])
    x = first.double()
    for k, ((alpha, sigma), (alpha_s, sigma_s)) in enumerate(itertools.pairwise(levels)):
        z, h = x, sigma_s / alpha_s - sigma / alpha
        if k < 4:
            back = x - alpha * h / 2 * eps(x, k)[1]
            z = x + 0.7 * (back + alpha * h / 2 * eps(back, k)[0] - x)
        cond, uncond = eps(z, k)
        x = alpha_s * (z / alpha + h * (uncond + 2.0 * (cond - uncond)))
    assert (got.double() - x).abs().max() < 1e-5 * x.abs().max()


def test_manifold_takes_no_tolerance():
    with pytest.raises(ValueError, match="leave it None"):
        DiffIER(objective="manifold", tolerance=0.1)
