import pytest
import torch
from diffusers.guiders import MagnitudeAwareGuidance
from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_guidance import RAAG, Trace, attach, raag, raag_ratio, raag_weight

from ..gaussian import GaussianPipeline


def written_out(cond: torch.Tensor, uncond: torch.Tensor, w_max: float, alpha: float) -> torch.Tensor:
    """The formula of METHODS, sample by sample, in float64."""
    out = []
    for c, u in zip(cond.double(), uncond.double(), strict=True):
        ratio = ((c - u) ** 2).sum().sqrt() / (u**2).sum().sqrt()
        out.append(u + (1 + (w_max - 1) * torch.exp(-alpha * ratio)) * (c - u))
    return torch.stack(out)


def pair(*shape: int, seed: int = 0, spread: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    uncond = torch.randn(shape, generator=generator)
    return uncond + spread * torch.randn(shape, generator=generator), uncond


def test_equals_the_guider_of_diffusers_on_packed_latents():
    cond, uncond = pair(3, 16, 8)
    theirs = MagnitudeAwareGuidance(guidance_scale=10.0, alpha=8.0).forward(cond, uncond).pred
    assert (raag(cond, uncond, 10.0, 8.0) - theirs).abs().max() < 1e-6


@pytest.mark.parametrize("shape", [(3, 4, 8, 8), (2, 4, 3, 8, 8), (2, 7), (2, 5, 6)])
def test_any_rank_equals_the_formula(shape):
    cond, uncond = pair(*shape)
    assert (raag(cond, uncond, 18.0, 12.0) - written_out(cond, uncond, 18.0, 12.0)).abs().max() < 2e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_differs_by_the_rounding_of_the_result_alone(dtype):
    cond, uncond = (tensor.to(dtype) for tensor in pair(4, 4, 8, 8))
    ours = raag(cond, uncond, 18.0, 12.0)
    assert ours.dtype == dtype
    expected = written_out(cond, uncond, 18.0, 12.0)
    assert ((ours.double() - expected).abs() <= torch.finfo(dtype).eps * expected.abs() + 1e-6).all()


def test_norms_do_not_overflow_float16():
    cond, uncond = (200 * tensor.half() for tensor in pair(2, 4, 32, 32))  # squares reach 1e5, past float16
    assert torch.isfinite(raag(cond, uncond, 18.0, 12.0)).all()


@pytest.mark.parametrize("alpha", [0.0, 12.0])
def test_finite_where_the_unconditional_prediction_is_zero(alpha):
    cond, uncond = pair(3, 4, 8, 8)
    uncond[1] = 0
    cond[2] = uncond[2] = 0
    out = raag(cond, uncond, 18.0, alpha)
    assert torch.isfinite(out).all()
    assert torch.equal(raag_ratio(cond, uncond)[2], torch.tensor(0.0))
    assert torch.equal(out[2], torch.zeros(4, 8, 8))


def test_the_ratio_is_exact_down_to_its_floor():
    """Norms of 1e-11 are divided as they are; below 1e-12 the ratio stays finite."""
    cond, base = torch.tensor([[3e-11, 4e-11], [3.0, 4.0]]), torch.tensor([[0.6e-11, 0.8e-11], [0.0, 0.0]])
    ratio = raag_ratio(cond + base, base)
    assert ratio[0].item() == pytest.approx(5.0, rel=1e-5) and ratio[1].item() == pytest.approx(5e12, rel=1e-5)


def test_equal_predictions_pass_unchanged_and_weight_one_is_the_conditional_prediction():
    cond, uncond = pair(2, 4, 8, 8)
    assert torch.equal(raag(cond, cond, 18.0, 12.0), cond)
    torch.testing.assert_close(raag(cond, uncond, 1.0, 12.0), cond)


def test_weight_falls_from_w_max_to_one():
    weight = raag_weight(torch.tensor([0.0, 0.1, 1.0, 1e6]), w_max=18.0, alpha=12.0)
    assert weight[0] == 18 and weight[-1] == 1 and (weight.diff() < 0).all()


@settings(max_examples=40, deadline=None)
@given(
    batch=st.integers(1, 6),
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    seed=st.integers(0, 2**31),
    w_max=st.floats(0, 50),
    alpha=st.floats(0, 30),
)
def test_a_sample_does_not_depend_on_its_batch(batch, shape, seed, w_max, alpha):
    cond, uncond = pair(batch, *shape, seed=seed)
    together = raag(cond, uncond, w_max, alpha)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(raag(cond[order], uncond[order], w_max, alpha), together[order])
    for i in range(batch):
        torch.testing.assert_close(raag(cond[i : i + 1], uncond[i : i + 1], w_max, alpha), together[i : i + 1])


def test_first_step_on_a_gaussian_mixture_is_closed_form():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(4, 6, generator=generator)
    noise, labels = torch.randn(5, 6, generator=generator), torch.tensor([0, 1, 2, 3, 0])
    pipe, trace = GaussianPipeline(means), Trace()
    seen = []
    with attach(pipe, [RAAG(w_max=10, alpha=8), trace, lambda step, proceed: seen.append(proceed(step)) or seen[-1]]):
        pipe(labels, noise, num_inference_steps=10)

    # At t = 1 the sample is pure noise, so E[x0 | x] is the mean: v_c - v_u = -(mu_c - mu), and v_u = eps - mu.
    mu, mu_c = means.mean(0), means[labels]
    ratio = (mu_c - mu).norm(dim=1) / (noise - mu).norm(dim=1)
    assert (trace.to_dict()["ratio"][0] - ratio).abs().max() < 1e-5
    weight = 1 + 9 * torch.exp(-8 * ratio)
    assert (seen[0] - ((noise - mu) - weight[:, None] * (mu_c - mu))).abs().max() < 1e-5


def test_the_ratio_spikes_at_the_first_steps_of_a_gaussian_mixture():
    generator = torch.Generator().manual_seed(1)
    means = 2 * torch.randn(4, 16, generator=generator)
    pipe, trace = GaussianPipeline(means), Trace()
    with attach(pipe, [RAAG(w_max=4, alpha=8), trace]):
        pipe(torch.arange(4).repeat(8), torch.randn(32, 16, generator=generator), num_inference_steps=20)
    ratio = trace.to_dict()["ratio"].mean(1)
    assert ratio[0] > 2 * ratio[10:].mean()


@pytest.mark.parametrize("arguments", [{"w_max": float("nan")}, {"alpha": -1.0}, {"alpha": float("inf")}])
def test_bad_settings_are_refused(arguments):
    with pytest.raises(ValueError, match="finite w_max and alpha >= 0"):
        RAAG(**arguments)


def test_predictions_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="of one shape"):
        raag(torch.zeros(2, 3), torch.zeros(2, 4), 18.0, 12.0)


def test_the_guider_of_diffusers_fails_on_images_or_agrees():
    """The README says that it fails; should a later release of diffusers run, it has to agree."""
    cond, uncond = pair(2, 4, 8, 8)
    try:
        theirs = MagnitudeAwareGuidance(guidance_scale=10.0, alpha=8.0).forward(cond, uncond).pred
    except RuntimeError as error:
        assert "dim must be a 2-tuple" in str(error)
    else:
        assert (raag(cond, uncond, 10.0, 8.0) - theirs).abs().max() < 1e-6


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_on_cuda_equals_cpu(dtype):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cond, uncond = (tensor.to(dtype) for tensor in pair(3, 4, 8, 8))
    torch.testing.assert_close(raag(cond.cuda(), uncond.cuda(), 18.0, 12.0).cpu(), raag(cond, uncond, 18.0, 12.0))
