import copy

import pytest
import torch
from diffusers.guiders import AutoGuidance
from diffusers.hooks import LayerSkipConfig

from diffusion_guidance import CFG, Autoguidance, DiffIER, attach, from_config, to_config
from diffusion_guidance.methods.autoguidance import autoguidance, load_like, without_lora

from ..gaussian import GaussianPipeline, GaussianVelocity
from ..tiny_families import FAMILIES
from .exact import LABELS, MEANS, SPREAD, flow_times, noise
from .test_families import TINY, pipe_of, plain_draw, watched


WIDER = 1.1


def weak_network(dtype=torch.float32):
    return GaussianVelocity(MEANS.to(dtype), WIDER)


def draw(guidance, weight=1.0, steps=8):
    pipe = GaussianPipeline(MEANS, SPREAD)
    with attach(pipe, guidance) as attachment:
        return pipe(LABELS, noise(), steps, weight).images, attachment.evaluations


def conditional(x: torch.Tensor, t: float, spread: float) -> torch.Tensor:
    """The velocity of one component in float64, at x (B, D)."""
    variance = (1 - t) ** 2 * spread**2 + t**2
    mean = MEANS.double()[LABELS]
    return (x - mean - (1 - t) * spread**2 / variance * (x - (1 - t) * mean)) / t


def written_out(weight: float, steps: int) -> torch.Tensor:
    x = noise().double()
    for t, s in flow_times(steps):
        strong, weak = (conditional(x, t, spread) for spread in (SPREAD, WIDER))
        x = x + (s - t) * (weight * strong + (1 - weight) * weak)
    return x


def test_equals_diffusers_guider_on_the_same_predictions():
    strong, weak = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    guider = AutoGuidance(guidance_scale=2.3, auto_guidance_config=LayerSkipConfig([0]))
    guider.set_state(step=0, num_inference_steps=1, timestep=torch.tensor(0))
    expected = guider.forward(pred_cond=strong, pred_uncond=weak).pred
    torch.testing.assert_close(autoguidance(strong, weak, 2.3), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_equals_the_loop_written_out(scale):
    """Whether the pipeline runs the unconditional pass or not."""
    found, evaluations = draw(Autoguidance(weak_network(), 1.7), scale)
    torch.testing.assert_close(found.double(), written_out(1.7, 8), atol=1e-5, rtol=0)
    assert evaluations == (8 if scale == 1 else 8 - 7 / 2)  # passes that nobody reads are left out after the first step


def test_weight_1_is_the_conditional_prediction_to_the_bit():
    plain = GaussianPipeline(MEANS, SPREAD)(LABELS, noise(), 8, 1.0).images
    found, evaluations = draw(Autoguidance(weak_network(), 1.0))
    assert torch.equal(found, plain) and evaluations == 0


def test_a_corrector_iterates_it():
    """One iteration of DiffIER asks both networks again in each step but the last."""
    found, evaluations = draw([Autoguidance(weak_network(), 1.7), DiffIER(iterations=1)])
    assert evaluations == 8 + 7 * 2 and not torch.allclose(found, draw(Autoguidance(weak_network(), 1.7))[0])


def test_all_predictions_of_the_other_network_are_there():
    seen = []

    def look(step, proceed):
        other = step.with_network(weak_network()).at(step.sample, index=step.grid_index)
        seen.append((step, other.cond, other.uncond))
        return proceed(step)

    pipe = GaussianPipeline(MEANS, SPREAD)
    with attach(pipe, look):
        pipe(LABELS, noise(), 4, 2.0)
    other = weak_network()
    for step, cond, uncond in seen:
        for found, labels in ((cond, LABELS), (uncond, torch.full_like(LABELS, len(MEANS)))):
            assert torch.equal(found, other(step.sample, step.timestep.expand(len(labels)), labels)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", TINY)
def test_runs_finite_without_a_wait_and_leaves_the_pipeline_as_it_was(name, dtype):
    pipe, plain = pipe_of(name, dtype), plain_draw(name, dtype)
    if not plain.isfinite().all():
        pytest.skip("the random network overflows")
    weak = copy.deepcopy(getattr(pipe, "transformer", None) or pipe.unet)
    for parameter in weak.parameters():
        parameter.data.mul_(0.97)
    with attach(pipe, watched(Autoguidance(weak))):
        result = TINY[name].draw(pipe, dtype=dtype)
    assert result.dtype == plain.dtype and result.isfinite().all() and not torch.equal(result, plain)
    assert torch.equal(TINY[name].draw(pipe, dtype=dtype), plain)


@pytest.fixture
def lora():
    """(family, pipeline with a LoRA, what it draws without one)."""
    peft = pytest.importorskip("peft")
    tiny = next(tiny for tiny in FAMILIES if tiny.name == "StableDiffusion3")
    pipe = tiny.pipe()
    bare = tiny.draw(pipe, **tiny.plain)
    pipe.transformer.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    return tiny, pipe, bare


def test_the_network_without_its_lora(lora):
    tiny, pipe, bare = lora
    needed = [(name, parameter.requires_grad) for name, parameter in pipe.transformer.named_parameters()]
    plain = tiny.draw(pipe, **tiny.plain)
    with attach(pipe, Autoguidance(weight=0.0)):
        found = tiny.draw(pipe, **tiny.plain)
    assert torch.equal(found, bare) and not torch.equal(plain, bare)
    assert torch.equal(tiny.draw(pipe, **tiny.plain), plain)
    assert [(name, parameter.requires_grad) for name, parameter in pipe.transformer.named_parameters()] == needed


def test_adapters_that_are_off_stay_off(lora):
    tiny, pipe, bare = lora
    pipe.transformer.disable_adapters()
    with without_lora(pipe.transformer):
        pass
    assert torch.equal(tiny.draw(pipe, **tiny.plain), bare)


def test_a_network_from_a_folder(tmp_path):
    tiny = TINY["StableDiffusion3"]
    pipe = tiny.pipe()
    weak = copy.deepcopy(pipe.transformer)
    for parameter in weak.parameters():
        parameter.data.mul_(0.97)
    weak.save_pretrained(tmp_path / "pipeline/transformer")
    results = []
    for network in (weak, str(tmp_path / "pipeline/transformer"), str(tmp_path / "pipeline")):
        with attach(pipe, Autoguidance(network)):
            results.append(tiny.draw(pipe))
    for found in results[1:]:  # the same numbers, at other places in memory
        torch.testing.assert_close(found, results[0], atol=1e-5, rtol=0)
    assert not torch.allclose(results[0], tiny.draw(pipe), atol=1e-3)
    made = [Autoguidance("folder", 1.5)]
    assert to_config(from_config(to_config(made))) == to_config(made)


def test_what_does_not_fit_is_refused(tmp_path, lora):
    with pytest.raises(ValueError, match="weight must be finite, got nan"):
        Autoguidance(weight=float("nan"))
    tiny, pipe, _ = lora
    with pytest.raises(ValueError, match="no SD3Transformer2DModel for autoguidance in"):
        attach(pipe, Autoguidance(str(tmp_path)))
    with pytest.raises(ValueError, match="has no LoRA to leave out"):
        draw(Autoguidance())
    with pytest.raises(ValueError, match=r"the other network, Narrow, returned \(5, 3\) where .* returned \(5, 6\)"):
        draw(Autoguidance(Narrow(MEANS, WIDER)))
    with pytest.raises(ValueError, match="has no transformer or unet; give autoguidance the network"):
        load_like(object(), "x")
    with pytest.raises(ValueError, match="GaussianVelocity cannot be loaded from x"):
        attach(GaussianPipeline(MEANS, SPREAD), Autoguidance("x"))
    pipe.transformer.fuse_lora()
    with pytest.raises(ValueError, match="call unfuse_lora first"), attach(pipe, Autoguidance()):
        tiny.draw(pipe, **tiny.plain)


class Narrow(GaussianVelocity):
    def forward(self, **given):
        return (super().forward(**given)[0][:, :3],)


def test_plain_guidance_before_it_is_refused():
    with pytest.raises(ValueError, match="CFG has no effect before Autoguidance"):
        draw([CFG(3.0), Autoguidance(weak_network())], 2.0)
