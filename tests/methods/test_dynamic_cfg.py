import pytest
import torch

from diffusion_guidance import CFG, DynamicCFG, Trace, attach
from diffusion_guidance.methods.dynamic_cfg import best_weight

from ..gaussian import GaussianPipeline
from ..tiny import draw_sd3, tiny_sd3
from .exact import LABELS, MEANS, SPREAD, flow_times, noise, sample, velocities


WEIGHTS = (0.5, 1.0, 2.0, 4.0)
TARGET = torch.linspace(-1, 2, 6)


def nearness(images: torch.Tensor) -> torch.Tensor:
    return -(images - TARGET.to(images.dtype)).square().sum(1)


def test_equals_a_loop_that_tries_every_weight():
    x, chosen = noise().double(), []
    for t, s in flow_times(8):
        cond, uncond = velocities(x, t)
        tried = [uncond + w * (cond - uncond) for w in WEIGHTS]
        best = torch.stack([nearness(x - t * v) for v in tried]).argmax(0)
        chosen.append([WEIGHTS[k] for k in best])
        x = x + (s - t) * torch.stack([tried[k][i] for i, k in enumerate(best)])
    trace = Trace()
    got, evaluations = sample([DynamicCFG(nearness, WEIGHTS, decoder=lambda x0: x0), trace], 8)
    torch.testing.assert_close(got.double(), x, atol=1e-5, rtol=0)
    assert torch.equal(trace.to_dict()["chosen_weight"], torch.tensor(chosen))
    assert len(set(torch.tensor(chosen).flatten().tolist())) > 1 and evaluations == 0


def test_a_single_weight_is_cfg_to_the_bit_and_asks_nobody():
    assert torch.equal(sample(DynamicCFG(lambda images: 1 / 0, [3.0]))[0], sample(CFG(3.0))[0])


def test_the_best_weight_of_each_sample():
    scores = torch.tensor([[1.0, 0.0, float("nan")], [0.0, 0.0, 1.0], [0.5, 2.0, float("nan")]])
    weights = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(best_weight(scores, weights), torch.tensor([1.0, 3.0, 2.0]))


@pytest.mark.parametrize("labels", [None, [0, 1, 2, 3, 0]])
def test_logits_count_by_the_label(labels):
    """The class of a mixture's component: the log-probability of the label picks the weight."""

    class Classes(torch.nn.Module):
        def forward(self, images):
            return -(images[:, None] - MEANS.to(images.dtype)).square().sum(-1)

    pipe, trace = GaussianPipeline(MEANS, SPREAD), Trace()
    guidance = DynamicCFG(Classes(), WEIGHTS, labels=labels, decoder=lambda x0: x0)

    def scorer(images):
        return Classes()(images).log_softmax(1)[range(5), LABELS]

    with attach(pipe, [guidance, trace]) as attachment:
        if labels is None:
            with pytest.raises(ValueError, match="class_labels"):
                pipe(LABELS, noise(), 8)
            return
        got = pipe(LABELS, noise(), 8).images
        assert attachment.evaluations == 0
    assert torch.equal(got, sample(DynamicCFG(scorer, WEIGHTS, decoder=lambda x0: x0))[0])


def test_latents_are_decoded_by_the_pipelines_own_autoencoder():
    pipe, seen = tiny_sd3(), []

    def score(images):
        seen.append(tuple(images.shape))
        return images.flatten(1).mean(1)

    with attach(pipe, DynamicCFG(score, [1.0, 3.0])):
        draw_sd3(pipe, steps=2)
    assert seen == [(2, 3, 32, 32)] * 4


def test_an_evaluator_that_returns_something_else_is_refused():
    with pytest.raises(ValueError, match=r"returned \(\) for 5 images|returned float"):
        sample(DynamicCFG(lambda images: float(images.mean()), WEIGHTS))
    for weights in ([], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="finite numbers, at least one"):
            DynamicCFG(nearness, weights)
