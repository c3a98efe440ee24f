import numpy as np
import pytest
import torch

from diffusion_guidance import CFG, ManifoldProjection, attach
from diffusion_guidance.methods.manifold_projection import anderson_mixing

from ..tiny_families import FAMILIES
from .exact import flow_times, noise, sample, velocities


def mixed(points: list[np.ndarray], residuals: list[np.ndarray], ridge: float) -> np.ndarray:
    """Anderson mixing of one sample, by NumPy's least squares with the ridge as further rows."""
    if len(points) == 1:
        return points[0] + residuals[0]
    change = np.stack([residuals[-1] - r for r in residuals[:-1]], axis=1)
    rows = np.concatenate([change, ridge * np.eye(change.shape[1])])
    gamma = np.linalg.lstsq(rows, np.concatenate([residuals[-1], np.zeros(change.shape[1])]), rcond=None)[0]
    shares = [*gamma, 1 - gamma.sum()]
    return sum(share * (p + r) for share, p, r in zip(shares, points, residuals, strict=True))


def written_out(steps: int, iterations: int, window: int, weight: float, threshold: float) -> torch.Tensor:
    x = noise().double()
    for t, s in flow_times(steps):
        z, h = x, s - t
        history: list[tuple[np.ndarray, np.ndarray]] = []
        for _ in range(iterations if t > threshold else 0):
            back = z - h / 2 * velocities(z, t)[1]
            history.append((z.numpy(), (back + h / 2 * velocities(back, t)[0] - z).numpy()))
            history = history[-window - 1 :]
            z = torch.as_tensor(
                np.stack([mixed([p[k] for p, _ in history], [r[k] for _, r in history], 1e-4) for k in range(len(x))])
            )
        cond, uncond = velocities(z, t)
        x = z + h * (uncond + weight * (cond - uncond))
    return x


@pytest.mark.parametrize(("iterations", "window"), [(3, 2), (3, 0), (1, 2), (4, 1)])
def test_equals_the_papers_loop(iterations, window):
    """In float64: near the fixed point the mixing divides small differences of residuals."""
    guidance = [CFG(2.5), ManifoldProjection(iterations, window)]
    got, evaluations = sample(guidance, 8, dtype=torch.float64)
    torch.testing.assert_close(got, written_out(8, iterations, window, 2.5, 0.6), atol=1e-5, rtol=0)
    active = sum(t > 0.6 for t, _ in flow_times(8))
    assert 0 < active < 8 and evaluations == 2 * iterations * active


def test_no_iteration_and_no_noisy_step_is_cfg_to_the_bit():
    plain, _ = sample(CFG(2.5))
    for guidance in (ManifoldProjection(0), ManifoldProjection(threshold=1.0)):
        got, evaluations = sample([CFG(2.5), guidance])
        assert torch.equal(got, plain) and evaluations == 0


@pytest.mark.parametrize("shape", [(2, 30), (3, 4, 5, 5)])
def test_the_mixing_equals_numpy(shape):
    generator = torch.Generator().manual_seed(0)
    points, residuals = ([torch.randn(shape, generator=generator) for _ in range(3)] for _ in range(2))
    got = anderson_mixing(points, residuals)
    for k in range(shape[0]):
        parts = ([tensor[k].double().flatten().numpy() for tensor in part] for part in (points, residuals))
        np.testing.assert_allclose(got[k].flatten().numpy(), mixed(*parts, 1e-4), atol=1e-5)


def test_the_mixing_solves_a_linear_map_of_two_dimensions_at_once():
    """Two differences span the plane, so the third point is the fixed point, where the plain iteration is far away."""
    matrix, shift = torch.tensor([[0.9, 0.3], [-0.2, 0.7]]), torch.tensor([1.0, 2.0])
    fixed = torch.linalg.solve(torch.eye(2) - matrix, shift)
    points, residuals, plain = [torch.zeros(1, 2)], [], torch.zeros(1, 2)
    for _ in range(3):
        residuals.append(points[-1] @ matrix.T + shift - points[-1])
        points.append(anderson_mixing(points[-3:], residuals[-3:], 1e-6))
        plain = plain @ matrix.T + shift
    torch.testing.assert_close(points[-1][0], fixed, atol=1e-3, rtol=0)
    assert (plain[0] - fixed).norm() > 1


def test_at_the_fixed_point_nothing_moves():
    point, still = torch.ones(2, 3), torch.zeros(2, 3)
    assert torch.equal(anderson_mixing([point] * 3, [still] * 3), point)


def test_noise_predictions_are_refused():
    tiny = next(tiny for tiny in FAMILIES if tiny.name == "StableDiffusionXL")
    pipe = tiny.pipe()
    with attach(pipe, ManifoldProjection()), pytest.raises(ValueError, match="predicts epsilon; use it with a flow"):
        tiny.draw(pipe)


@pytest.mark.parametrize(
    "arguments", [{"iterations": -1}, {"window": 0.5}, {"ridge": 0.0}, {"threshold": 2.0}, {"iterations": 1.5}]
)
def test_bad_settings_are_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        ManifoldProjection(**arguments)
