import pytest
import torch
from diffusers import SD3Transformer2DModel

from diffusion_guidance.core.differentiable import differentiable

from ..tiny import tiny_sd3


def states(network: SD3Transformer2DModel) -> list:
    """What the context sets: of all parts, and of the weights."""
    parts = [
        (part.gradient_checkpointing, vars(part).get("_gradient_checkpointing_func"))
        for part in network.modules()
        if hasattr(part, "gradient_checkpointing")
    ]
    return [*parts, *(weight.requires_grad for weight in network.parameters())]


def test_all_is_as_before_at_the_end_and_after_an_error():
    network = tiny_sd3().transformer
    next(iter(network.parameters())).requires_grad_(False)
    before = states(network)
    with torch.no_grad(), pytest.raises(KeyError), differentiable(network):
        assert torch.is_grad_enabled() and network.is_gradient_checkpointing
        assert not any(weight.requires_grad for weight in network.parameters())
        raise KeyError
    assert states(network) == before and not network.is_gradient_checkpointing


def test_a_user_s_own_checkpointing_is_left_alone():
    network = tiny_sd3().transformer
    network.enable_gradient_checkpointing()
    before = states(network)
    with differentiable(network):
        assert [state for state in states(network) if isinstance(state, tuple)] == before[
            : -len([*network.parameters()])
        ]
    assert states(network) == before


def test_any_module_will_do():
    layer, x = torch.nn.Linear(3, 3), torch.ones(2, 3, requires_grad=True)
    with torch.no_grad(), differentiable(layer):
        (gradient,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(gradient, layer.weight.sum(0).expand(2, 3))
    assert layer.weight.requires_grad and layer.weight.grad is None
