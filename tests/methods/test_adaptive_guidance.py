import pytest
import torch

from diffusion_guidance import CFG, AdaptiveGuidance, DiffIER, Trace, attach
from diffusion_guidance.core.needs import Upcoming
from diffusion_guidance.methods import adaptive_guidance
from diffusion_guidance.methods.adaptive_guidance import agreement

from ..gaussian import GaussianPipeline
from ..nosync import NoSynchronisation
from .exact import LABELS, MEANS, SPREAD, flow_times, noise, sample, velocities


STEPS, BOUND = 12, 0.99


def loop(bound: float, weight: float) -> tuple[torch.Tensor, list[int]]:
    """The mixture sampled by hand, and at how many steps each sample was guided."""
    x = noise().double()
    agreed, guided = torch.zeros(len(x), dtype=torch.bool), torch.zeros(len(x), dtype=torch.long)
    for t, s in flow_times(STEPS):
        cond, uncond = velocities(x, t)
        v = torch.where(agreed[:, None], cond, uncond + weight * (cond - uncond))
        guided += ~agreed
        agreed |= torch.nn.functional.cosine_similarity(cond, uncond, dim=1) > bound
        x = x + (s - t) * v
    return x, guided.tolist()


def test_equals_a_loop_sample_by_sample():
    expected, guided = loop(BOUND, 3.0)
    assert len(set(guided)) > 2 and max(guided) < STEPS  # so that the rule matters, and not for all alike
    got, evaluations = sample([CFG(3.0), AdaptiveGuidance(BOUND)], STEPS)
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=0)
    # The pass ran as long as one sample was guided.
    assert evaluations == -(STEPS - max(guided)) / 2


def test_results_do_not_depend_on_when_the_host_knows(monkeypatch):
    at_once, _ = sample([CFG(3.0), AdaptiveGuidance(BOUND)], STEPS)
    monkeypatch.setattr(adaptive_guidance, "_when_known", lambda flag: lambda: False)
    never, evaluations = sample([CFG(3.0), AdaptiveGuidance(BOUND)], STEPS)
    assert evaluations == 0
    torch.testing.assert_close(at_once, never, atol=2e-6, rtol=0)


@pytest.mark.parametrize(("after", "guided"), [(0.5, 6), (0.0, 0), (0.99, 11)])
def test_after_a_fraction_of_the_steps_the_pass_does_not_run(after, guided):
    weights = CFG([3.0] * guided + [1.0])
    got, evaluations = sample([CFG(3.0), AdaptiveGuidance(None, after)], STEPS)
    torch.testing.assert_close(got, sample(weights, STEPS)[0], atol=1e-6, rtol=0)
    assert evaluations == -(STEPS - max(guided, 1)) / 2  # the first step is where it is seen how to leave it out


def test_without_bound_and_fraction_it_is_what_stands_before_it_to_the_bit():
    got, evaluations = sample([CFG(3.0), AdaptiveGuidance(None)], 3)
    assert torch.equal(got, sample(CFG(3.0), 3)[0])
    assert evaluations == 0


def test_a_run_starts_undecided_and_others_that_read_keep_the_pass():
    limit, trace = AdaptiveGuidance(BOUND), Trace()
    first, evaluations = sample([CFG(3.0), limit, trace], STEPS)
    second, again = sample([CFG(3.0), limit, trace], STEPS)
    assert torch.equal(first, second) and evaluations == again < 0
    found = trace.to_dict()["agreement"]
    assert found.isnan().any(1).sum() == -2 * evaluations  # rows without the pass
    assert sample([CFG(3.0), limit, DiffIER()], STEPS)[1] == STEPS - 1  # which evaluates both
    assert limit.reads(Upcoming(3, STEPS)) is None


def test_the_cosine():
    generator = torch.Generator().manual_seed(0)
    cond, uncond = torch.randn(2, 4, 3, 5, 5, generator=generator).unbind()
    expected = torch.nn.functional.cosine_similarity(cond.flatten(1), uncond.flatten(1), dim=1)
    torch.testing.assert_close(agreement(cond, uncond), expected, atol=1e-6, rtol=0)
    assert agreement(torch.zeros(1, 2), torch.ones(1, 2)).tolist() == [0.0]


def test_no_step_waits_for_the_device():
    limit = AdaptiveGuidance(BOUND)

    def watched(step, proceed):
        with NoSynchronisation():
            return limit(step, proceed)

    with attach(GaussianPipeline(MEANS, SPREAD), [CFG(3.0), watched]) as attachment:
        attachment.pipe(LABELS, noise(), STEPS)


@pytest.mark.parametrize("settings", [{"bound": 1.0}, {"bound": -1.0}, {"after": 1.5}, {"after": -0.1}])
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match=r"in [(\[]"):
        AdaptiveGuidance(**settings)
