"""Methods in one list, against the same sampler written again in float64."""

import copy
import math
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from torch import nn

from diffusion_guidance import CFG, ClassifierGuidance, DiffIER, GuidanceInterval, Strength, Trace, attach
from diffusion_guidance.pipelines import ClassConditionalPipeline
from diffusion_guidance.worlds.digits_classifier import DigitsClassifier


ASSETS = Path(__file__).parents[2] / "assets"
LABELS, STEPS, WEIGHT, INTERVAL = [3, 8, 5], 4, 2.0, (0.3, 1.5)


@pytest.fixture(scope="module")
def pipe():
    pipe = ClassConditionalPipeline.from_pretrained(ASSETS / "digits")
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def classifier():
    return DigitsClassifier.from_pretrained(ASSETS / "digits-classifier").eval()


class Written:
    """CFG, the interval, EluCD and one iteration of DiffIER on DDIM; nothing of guidance is used."""

    def __init__(self, pipe, classifier, schedule: str, interval: bool):
        self.network, self.classifier = copy.deepcopy(pipe.transformer).double(), copy.deepcopy(classifier).double()
        for k, part in enumerate(self.classifier.body):
            if isinstance(part, nn.ReLU):
                self.classifier.body[k] = nn.Softplus(beta=5.0 if schedule == "edm" else 3.0)
        self.schedule, self.interval, self.errors = schedule, interval, []
        self.times = [k * (1000 // STEPS) + pipe.scheduler.config.steps_offset for k in reversed(range(STEPS))]
        abar = pipe.scheduler.alphas_cumprod.double()[self.times].tolist()
        last = pipe.scheduler.final_alpha_cumprod.double().item()
        self.levels = [(math.sqrt(a), math.sqrt(1 - a)) for a in (*abar, last)]
        self.variances = [self.ancestral(k)[0] for k in range(STEPS)]

    def ancestral(self, k: int) -> tuple[float, float]:
        (a_t, s_t), (a_s, s_s) = self.levels[k], self.levels[k + 1]
        beta = 1 - (a_t / a_s) ** 2
        return beta * s_s**2 / s_t**2, a_s * beta / s_t**2

    def gradient(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            logits = self.classifier(x)
            marginal = 0.0 if self.schedule == "edm" else 0.5
            score = logits[range(len(x)), LABELS] - torch.exp(marginal * logits).sum(1).log()
            return torch.autograd.grad(score.sum(), x)[0]

    def guided(self, x: torch.Tensor, k: int) -> torch.Tensor:
        """eps at position k of the grid."""
        (alpha, sigma), times = self.levels[k], torch.full((len(x),), self.times[k])
        cond, uncond = (self.network(x, times, torch.tensor(y)).sample for y in (LABELS, [10] * len(x)))
        eps = uncond + WEIGHT * (cond - uncond)
        if self.interval and not INTERVAL[0] < sigma / alpha <= INTERVAL[1]:
            eps = cond
        x0, time = (x - sigma * eps) / alpha, (STEPS - 1 - k) / STEPS
        bump = 0.3 * math.sin(math.pi * time)
        if self.schedule == "x0":
            variance = 0.25 * sigma**2 / (0.25 * alpha**2 + sigma**2)
            x0 = x0 + (variance + bump * 0.25) * self.gradient(x0.clamp(-1, 1))
        elif self.schedule == "ddpm":
            variance, share = self.ancestral(k)
            x0 = x0 + (variance + bump * max(self.variances)) / share * self.gradient(x0.clamp(-1, 1))
        elif k < STEPS - 1:
            rms = lambda z: z.square().mean((1, 2, 3), keepdim=True).sqrt()  # noqa: E731
            strength = 0.004 * (STEPS - k) / (STEPS + 1) + math.sin(math.pi * (k + 1) / STEPS) * 0.004 * 0.3
            gradient = self.gradient(x / alpha / rms(x / alpha).clamp(min=1))
            then = self.levels[k + 1]
            x0 = x0 + strength * rms(x) / rms(gradient) * gradient / (then[0] - alpha * then[1] / sigma)
        return (x - alpha * x0) / sigma

    def move(self, x: torch.Tensor, eps: torch.Tensor, k: int) -> torch.Tensor:
        (alpha, sigma), (alpha_s, sigma_s) = self.levels[k], self.levels[k + 1]
        return alpha_s * (x - sigma * eps) / alpha + sigma_s * eps

    @torch.no_grad()
    def run(self, x: torch.Tensor) -> torch.Tensor:
        for k in range(STEPS):
            eps = self.guided(x, k)
            if k < STEPS - 1:
                found = self.guided(self.move(x, eps, k), k + 1)
                self.errors.append((eps - found).square().mean((1, 2, 3)))
                eps = (eps + found) / 2
            x = self.move(x, eps, k)
        return x


@pytest.mark.parametrize("interval", [False, True], ids=["", "interval"])
@pytest.mark.parametrize("schedule", ["x0", "ddpm", "edm"])
def test_guidance_classifier_and_diffier_in_one_list(pipe, classifier, schedule, interval):
    """The classifier guides at DiffIER's trial points too, as strongly as the sampler's step from there would be."""
    callbacks = [CFG(WEIGHT), ClassifierGuidance(classifier, Strength(schedule)), DiffIER(1, 0.5), trace := Trace()]
    if interval:
        callbacks.insert(1, GuidanceInterval(*INTERVAL))
    generator = torch.Generator().manual_seed(0)
    with attach(pipe, callbacks) as attachment:
        call = {"guidance_scale": 3.0, "num_inference_steps": STEPS, "output_type": "latent"}
        got = pipe(LABELS, generator=generator, **call).images
        assert attachment.evaluations == STEPS - 1
    written = Written(pipe, classifier, schedule, interval)
    expected = written.run(torch.randn(got.shape, generator=torch.Generator().manual_seed(0)).double())
    torch.testing.assert_close(got.double(), expected, atol=4e-5, rtol=0)
    *found, last = trace.to_dict()["trial_error"].double()
    assert last.isnan().all()  # the last step has no next sample
    torch.testing.assert_close(torch.stack(found), torch.stack(written.errors), atol=1e-6, rtol=1e-4)
