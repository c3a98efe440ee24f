import pytest
import torch
from torch import nn

from diffusion_guidance import class_gradient, class_log_prob
from diffusion_guidance.methods.classifier.gradient import class_log_prob_gradient


def classifier(classes: int = 10) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, classes)).eval()


@pytest.mark.parametrize("taus", [(1.0, 1.0), (1.0, 0.5), (0.7, 0.0)])
def test_log_probability_is_the_formula_and_stays_finite(taus):
    logits, labels = 3 * torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 6, 3, 2, 1])
    exact = logits.double()
    joint, marginal = torch.exp(taus[0] * exact)[range(5), labels], torch.exp(taus[1] * exact).sum(1)
    torch.testing.assert_close(class_log_prob(logits, labels, *taus).double(), torch.log(joint / marginal))
    assert torch.isfinite(class_log_prob(5e3 * logits.half(), labels, *taus)).all()


@pytest.mark.parametrize("taus", [(1.0, 1.0), (1.0, 0.5), (0.7, 0.0)])
def test_gradient_by_the_logits_is_that_of_autograd(taus):
    logits, labels = 3 * torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 6, 3, 2, 1])
    for given in (logits, 5e3 * logits.half()):  # the exponential of the second is infinite
        exact = given.double().requires_grad_()
        expected = torch.autograd.grad(class_log_prob(exact, labels, *taus).sum(), exact)[0]
        found = class_log_prob_gradient(given, labels[:, None], *taus)
        torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=0)


def test_gradient_is_a_finite_difference():
    model = classifier(classes=4).double()
    model[1], model[3] = nn.Softplus(3), nn.Softplus(3)  # a kink of ReLU would spoil the difference
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels, h = torch.tensor([2, 0, 3]), 1e-5
    gradient = class_gradient(model, x, labels, 0.8, 0.5)
    for place in [(0, 0, 0, 0), (1, 0, 3, 4), (2, 0, 7, 7)]:
        moved = [x.clone() for _ in range(2)]
        moved[0][place] += h
        moved[1][place] -= h
        up, down = (class_log_prob(model(each), labels, 0.8, 0.5).sum() for each in moved)
        assert abs((up - down) / (2 * h) - gradient[place]) < 1e-8


def test_chunks_and_gradient_modes_give_the_same_gradient():
    model, x, labels = classifier(), torch.randn(5, 1, 8, 8), torch.arange(5)
    whole = class_gradient(model, x, labels)
    torch.testing.assert_close(class_gradient(model, x, labels, chunk=2), whole)
    with torch.no_grad():
        assert torch.equal(class_gradient(model, x, labels), whole)
    with torch.inference_mode():
        given = x.clone(), torch.arange(5)
        assert torch.equal(class_gradient(model, *given), whole)
    assert all(each.grad is None for each in model.parameters())
