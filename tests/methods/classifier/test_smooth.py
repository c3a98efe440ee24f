import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.nn import functional

from diffusion_guidance.methods.classifier.smooth import Softplus, frozen_copy, smoothed


def net() -> nn.Sequential:
    torch.manual_seed(0)
    shared = nn.ReLU(inplace=True)
    block = nn.Sequential(nn.Linear(6, 8), shared, nn.Linear(8, 8), shared)
    return nn.Sequential(block, nn.Linear(8, 8), nn.LeakyReLU(0.2), nn.Linear(8, 8), nn.ReLU6(), nn.Linear(8, 3)).eval()


def test_the_copy_is_softplus_at_every_relu_and_the_original_is_as_before():
    model, x = net(), torch.randn(5, 6)
    before = model(x)
    copy, replaced = smoothed(model, beta=3.0)
    assert replaced == ("0.1", "0.3", "2", "4")
    (first, _, second, _), a, _, b, _, c = model[0], *list(model)[1:]
    h = functional.softplus(second(functional.softplus(first(x), 3.0)), 3.0)
    h = 0.2 * a(h) + 0.8 * functional.softplus(a(h), 3.0)
    h = functional.softplus(b(h), 3.0) - functional.softplus(b(h) - 6, 3.0)
    torch.testing.assert_close(copy(x), c(h))
    assert torch.equal(model(x), before) and isinstance(model[0][1], nn.ReLU)


@pytest.mark.parametrize("kind", [nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1)], ids=lambda kind: type(kind).__name__)
def test_a_large_beta_is_the_original_activation(kind):
    x = torch.linspace(-9, 9, 101)
    copy, replaced = smoothed(kind, beta=1e4)
    assert replaced == ("",) and isinstance(copy, Softplus)
    torch.testing.assert_close(copy(x), kind(x), atol=1e-3, rtol=0)


def test_the_copy_shares_weights_wants_no_gradient_of_them_and_moves_alone():
    model = net()
    copy, _ = smoothed(model, 3.0)
    assert copy[5].weight.data_ptr() == model[5].weight.data_ptr()
    assert model[5].weight.requires_grad and not any(each.requires_grad for each in copy.parameters())
    copy.double()
    assert model[5].weight.dtype == torch.float32


def test_buffers_are_shared_and_tied_weights_stay_tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)).eval()
    model[2].weight = model[0].weight
    copy = frozen_copy(model)
    assert copy[2].weight is copy[0].weight
    assert copy[1].running_mean.data_ptr() == model[1].running_mean.data_ptr()


def test_torchvision_and_timm_models():
    resnet = torchvision.models.resnet18(num_classes=4).eval()
    copy, replaced = smoothed(resnet, 3.0)
    assert len(replaced) == sum(isinstance(each, nn.ReLU) for each in resnet.modules()) == 9
    assert copy(torch.zeros(1, 3, 32, 32)).shape == (1, 4)
    model = timm.create_model("resnet10t", num_classes=4).eval()
    copy, replaced = smoothed(model, 5.0)
    assert replaced and not any(isinstance(each, nn.ReLU) for each in copy.modules())
    assert torch.isfinite(copy(torch.zeros(1, 3, 32, 32))).all()


class Functional(nn.Module):
    def forward(self, x):
        return functional.relu(x)


@pytest.mark.parametrize("module", [Functional(), nn.Sequential(nn.Linear(2, 2), nn.GELU())])
def test_nothing_to_replace_is_said(module):
    with pytest.raises(ValueError, match=r"functional\.relu in its code cannot be replaced"):
        smoothed(module, 3.0)


def test_beta_must_be_positive():
    with pytest.raises(ValueError, match="above 0"):
        smoothed(nn.ReLU(), 0.0)
