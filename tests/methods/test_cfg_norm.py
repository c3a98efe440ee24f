import pytest
import torch

from diffusion_guidance import CFG, CFGNorm
from diffusion_guidance.methods.cfg_norm import cfg_norm

from .exact import flow_times, noise, sample, velocities


def pair(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return 1.2 * torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)


@pytest.mark.parametrize(
    ("shape", "places"),
    [
        ((2, 5, 4), [(slice(None), i, slice(None)) for i in range(5)]),
        ((2, 4, 3, 3), [(slice(None), slice(None), i, j) for i in range(3) for j in range(3)]),
        ((1, 4, 2, 2, 2), [(slice(None), slice(None), i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]),
    ],
)
def test_each_token_equals_the_formula(shape, places):
    prediction, cond = pair(*shape)
    got = cfg_norm(prediction, cond)
    for place in places:
        p, c = prediction[place].double(), cond[place].double()
        factor = (c.pow(2).sum(1).sqrt() / p.pow(2).sum(1).sqrt()).clamp(max=1.0)
        torch.testing.assert_close(got[place].double(), p * factor[:, None], atol=1e-6, rtol=1e-6)


def test_no_token_is_longer_than_the_conditional_one_and_short_ones_stay():
    prediction, cond = pair(3, 7, 8)
    got = cfg_norm(prediction, cond)
    norms = [x.norm(dim=2) for x in (got, cond, prediction)]
    assert (norms[0] <= norms[1] * (1 + 1e-6)).all()
    shorter = norms[2] < norms[1]
    assert 0 < shorter.sum() < shorter.numel()
    assert torch.equal(got[shorter], prediction[shorter])
    assert torch.isfinite(cfg_norm(torch.zeros(2, 3, 4), torch.ones(2, 3, 4))).all()


@pytest.mark.parametrize("space", ["prediction", "x0"])
def test_equals_a_loop(space):
    x = noise().double()
    for t, s in flow_times(8):
        cond, uncond = velocities(x, t)
        guided = uncond + 3.0 * (cond - uncond)
        if space == "x0":
            cond, guided = x - t * cond, x - t * guided
        guided = guided * (cond.norm(dim=1) / guided.norm(dim=1)).clamp(max=1)[:, None]
        guided = (x - guided) / t if space == "x0" else guided
        x = x + (s - t) * guided
    got, evaluations = sample([CFG(3.0), CFGNorm(space=space)], 8)
    torch.testing.assert_close(got.double(), x, atol=1e-5, rtol=0)
    assert evaluations == 0


def test_amount_0_is_what_stands_before_it_to_the_bit():
    assert torch.equal(sample([CFG(3.0), CFGNorm(0.0)])[0], sample(CFG(3.0))[0])


@pytest.mark.parametrize(("arguments", "said"), [({"amount": 2.0}, r"\[0, 1\]"), ({"space": "v"}, "prediction, x0")])
def test_bad_settings_are_refused(arguments, said):
    with pytest.raises(ValueError, match=said):
        CFGNorm(**arguments)
