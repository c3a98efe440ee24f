import math

import pytest
import torch

from diffusion_guidance import CFG, FeedbackGuidance, Trace, attach
from diffusion_guidance.methods.feedback import feedback_weight, transition_variance

from ..gaussian import GaussianPipeline
from .exact import LABELS, MEANS, SPREAD, flow_times, noise, sample, velocities


def written_out(steps: int, prior: float, w_max: float, temperature: float, offset: float):
    """FBG on the mixture in float64, with z = x / (1 - t) and s = t / (1 - t), and the weights."""
    x, log_ratio, weights, before = noise().double(), torch.zeros(len(LABELS), dtype=torch.float64), [], None
    for t, s in flow_times(steps):
        t = min(t, 1 - 1e-9)  # at pure noise z is infinite
        if before is not None:
            x_t, x0_c, x0_u, past = before
            noise_t, noise_n = past / (1 - past), t / (1 - t)
            variance = (noise_t**2 - noise_n**2) * noise_n**2 / noise_t**2
            means = [
                noise_n**2 / noise_t**2 * x_t / (1 - past) + (noise_t**2 - noise_n**2) / noise_t**2 * x0
                for x0 in (x0_c, x0_u)
            ]
            errors = [(x / (1 - t) - mean).pow(2).sum(1) for mean in means]
            log_ratio = log_ratio - temperature / (2 * variance) * (errors[0] - errors[1]) + offset
        log_ratio = log_ratio.clamp(math.log((1 - prior) * w_max / (w_max - 1)), 3.0)
        weight = log_ratio.exp() / (log_ratio.exp() - (1 - prior))
        weights.append(weight)
        cond, uncond = velocities(x, t)
        before = (x, x - t * cond, x - t * uncond, t)
        x = x + (s - t) * (uncond + weight[:, None] * (cond - uncond))
    return x, torch.stack(weights)


@pytest.mark.parametrize("settings", [(0.8, 10.0, 0.2, -0.1), (0.95, 4.0, 0.05, -0.4)])
def test_equals_the_papers_loop(settings):
    prior, w_max, temperature, offset = settings
    expected, weights = written_out(8, *settings)
    trace = Trace()
    guidance = FeedbackGuidance(prior, w_max, temperature=temperature, offset=offset)
    got, evaluations = sample([guidance, trace], 8)
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=0)
    assert evaluations == 0
    assert weights.std() > 0.05
    assert torch.equal(sample(guidance, 8)[0], got)  # a run starts at 0
    found = trace.to_dict()["log_ratio"].double()
    torch.testing.assert_close(feedback_weight(found, prior), weights, atol=1e-3, rtol=1e-3)


def test_the_weight_reaches_w_max_and_not_more():
    low = math.log(0.2 * 10 / 9)
    assert feedback_weight(torch.tensor(low), 0.8).item() == pytest.approx(10.0, rel=1e-5)
    trace = Trace()
    sample([FeedbackGuidance(0.8, 10.0, temperature=0.0, offset=-5.0), trace], 8)
    weight = feedback_weight(trace.to_dict()["log_ratio"], 0.8)
    torch.testing.assert_close(weight[1:], torch.full((7, 5), 10.0), atol=1e-3, rtol=0)


def test_the_constants_of_t0_and_t1():
    """10 steps, t1 = 0.35: half-way between the transitions that are 3 and 4 steps before the last."""
    steps, seen = 10, []
    guidance = FeedbackGuidance(0.9, t0=0.5, t1=0.35)
    pipe = GaussianPipeline(MEANS, SPREAD)
    with attach(pipe, lambda step, proceed: seen.append(guidance._constants(step)) or proceed(step)):
        pipe(LABELS, noise(), steps)
    offset = math.log(0.1 * 3 / 2) / (0.5 * steps)
    times = list(flow_times(steps))
    variances = []
    for t, s in (times[6], times[5]):
        start, end = t / (1 - t), s / (1 - s)
        variances.append((start**2 - end**2) * end**2 / start**2)
    temperature = abs(2 * sum(variances) / 2 / 10 * offset)
    for found in seen:
        assert found[1] == pytest.approx(offset)
        assert found[0].item() == pytest.approx(temperature, rel=1e-4)


def test_the_variance_at_pure_noise_is_finite():
    one, zero, half = torch.tensor(1.0), torch.tensor(0.0), torch.tensor(0.5)
    assert transition_variance((zero, one), (half, half)).item() == pytest.approx(1.0)
    assert transition_variance((half, half), (one, zero)).item() == 0


def test_without_feedback_it_is_cfg_to_the_bit():
    plain = sample(CFG(2.0))[0]
    assert torch.equal(sample(FeedbackGuidance(0.5, temperature=0.0, offset=0.0))[0], plain)


def test_the_weight_of_a_sample_does_not_depend_on_its_batch():
    pipe, guidance = GaussianPipeline(MEANS, SPREAD), FeedbackGuidance(0.8)
    with attach(pipe, guidance):
        together = pipe(LABELS, noise(), 8).images
        alone = pipe(LABELS[3:4], noise()[3:4], 8).images
    torch.testing.assert_close(together[3:4], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("arguments", [{"prior": 1.0}, {"t0": 1.0}, {"w_max": 1.0}, {"offset": float("nan")}])
def test_bad_settings_are_refused(arguments):
    with pytest.raises(ValueError, match="must be"):
        FeedbackGuidance(**arguments)
