import numpy as np
import pytest
import torch

from diffusion_guidance import CFG, attach, classifier_free_guidance, effective_weight

from ..tiny import draw_sd3, tiny_sd3


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


def test_effective_weight_is_the_least_squares_solution_of_numpy():
    cond, uncond = pair(3, 4, 5)
    prediction = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    found = effective_weight(prediction, cond, uncond)
    for k in range(3):
        direction = (cond - uncond)[k].reshape(-1, 1).double().numpy()
        target = (prediction - uncond)[k].reshape(-1).double().numpy()
        assert found[k].item() == pytest.approx(np.linalg.lstsq(direction, target, rcond=None)[0][0], abs=1e-5)


def test_effective_weight_of_cfg_is_its_weight_and_1_without_a_direction():
    cond, uncond = pair(2, 4, 8, 8)
    torch.testing.assert_close(
        effective_weight(classifier_free_guidance(cond, uncond, 3.5), cond, uncond), torch.full((2,), 3.5)
    )
    assert torch.equal(effective_weight(cond, cond, cond), torch.ones(2))
    noise = torch.randn(cond.shape, generator=torch.Generator().manual_seed(1)).double()
    near = uncond.double() + 1e-3 * noise  # a direction of a small norm still has a weight
    torch.testing.assert_close(effective_weight(uncond + 3.5 * (near - uncond), near, uncond), torch.full((2,), 3.5))


def test_a_weight_for_each_frame_and_for_each_place():
    cond, uncond = pair(2, 4, 3, 5, 5)
    frames = torch.tensor([1.0, 2.0, 3.0])
    out = classifier_free_guidance(cond, uncond, frames[:, None, None])
    for k in range(3):
        expected = classifier_free_guidance(cond[:, :, k], uncond[:, :, k], frames[k].item())
        torch.testing.assert_close(out[:, :, k], expected)
    places = torch.rand(2, 1, 1, 5, 5)
    torch.testing.assert_close(classifier_free_guidance(cond, uncond, places), uncond + places * (cond - uncond))


def test_a_weight_of_1_everywhere_is_the_weight_1_of_a_number_of_samples():
    cond, uncond = pair(2, 4, 3)
    same = classifier_free_guidance(cond, uncond, torch.tensor([2.0, 2.0]))
    assert torch.equal(classifier_free_guidance(cond, uncond, torch.full((1, 4, 3), 2.0)), same)


@pytest.mark.parametrize("shape", [(3,), (2, 1), (1, 2, 4, 3), (5, 1, 1)])
def test_a_weight_that_does_not_broadcast_is_refused(shape):
    cond, uncond = pair(2, 4, 3)
    with pytest.raises(ValueError, match="does not broadcast to predictions of shape"):
        classifier_free_guidance(cond, uncond, torch.ones(shape))


def test_numbers_along_a_dimension():
    pipe, seen = tiny_sd3(), []
    rows = [float(k) for k in range(1, 9)]

    def watch(step, proceed):
        seen.append((proceed(step), step.cond, step.uncond))
        return seen[-1][0]

    with attach(pipe, [CFG(weight=rows, along=2), watch]):
        draw_sd3(pipe)
    for prediction, cond, uncond in seen:
        weight = torch.tensor(rows)[:, None]
        torch.testing.assert_close(prediction, uncond + weight * (cond - uncond))
    with attach(pipe, CFG(weight=rows, along=1)), pytest.raises(ValueError, match="8 numbers along dimension 1"):
        draw_sd3(pipe)


def test_numbers_of_numpy_and_of_torch_are_plain_numbers():
    assert CFG(weight=np.float32(2.0)).weight == 2.0
    assert CFG(weight=torch.tensor(2.5)).weight == 2.5
    given = CFG(weight=np.linspace(3.0, 1.0, 3))
    assert given.weight == given.config.weight == [3.0, 2.0, 1.0]
    with pytest.raises(ValueError, match="needs a weight that is a sequence"):
        CFG(weight=2.0, along=1)
    with pytest.raises(ValueError, match="weight must be"):
        CFG(weight=torch.tensor([1.0, float("nan")]))
