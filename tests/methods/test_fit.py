import pytest
import torch

from diffusion_guidance import CFG, RAAG, Trace, attach, fit_raag, raag_weight
from diffusion_guidance.methods.fit import raag_constants

from ..gaussian import GaussianPipeline
from ..tiny import draw_sd3, tiny_sd3


MEANS = 2 * torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
LABELS = torch.arange(4).repeat(16)


def draw(pipe, seed: int, steps: int = 12, weight: float = 3.0):
    noise = torch.randn(len(LABELS), 16, generator=torch.Generator().manual_seed(seed))
    return pipe(LABELS, noise, steps, weight)


@pytest.mark.parametrize("last_weight", [None, 4.0])
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_on_a_mixture_the_weights_asked_for_are_met_within_5_percent(last_weight, spread):
    pipe = GaussianPipeline(MEANS, spread)
    fit = fit_raag(pipe, lambda run: draw(pipe, run), 1.5, last_weight)
    trace, wanted = Trace(), last_weight or 3.0
    assert fit.needed and fit.last_weight == pytest.approx(wanted, rel=1e-3)
    with attach(pipe, [fit.callback, trace]):
        draw(pipe, 99)
    # The effective weight is not defined where the two predictions are equal, as they are late.
    weights = raag_weight(trace.to_dict()["ratio"], fit.callback.w_max, fit.callback.alpha)
    assert weights[0].median().item() == pytest.approx(1.5, rel=0.05)
    assert weights[6:].median().item() == pytest.approx(wanted, rel=0.05)
    assert fit.weights[0].item() == pytest.approx(1.5, rel=1e-3)


def test_the_best_row_of_the_grid_on_shapes_is_given_back():
    """Ratios 1.0 and 0.22, weights 1.54 and 3.6: alpha 2.0, w_max 5.0."""
    w_max, alpha = raag_constants(1.0, 0.22, 1.54, 3.6)
    assert w_max == pytest.approx(5.0, abs=0.1) and alpha == pytest.approx(2.0, abs=0.05)


def test_the_constants_solve_both_equations():
    w_max, alpha = raag_constants(0.8, 0.1, 1.3, 6.0)
    found = raag_weight(torch.tensor([0.8, 0.1], dtype=torch.float64), w_max, alpha)
    assert found.tolist() == pytest.approx([1.3, 6.0])


def test_it_says_when_the_ratio_does_not_fall(tmp_path):
    pipe = tiny_sd3()  # random weights: the ratio stays as it is
    fit = fit_raag(pipe, lambda run: draw_sd3(pipe, seed=run, steps=4), runs=1)
    assert not fit.needed and "RAAG is not needed" in str(fit)
    assert isinstance(fit.callback, CFG) and fit.callback.weight == pytest.approx(5.0, rel=1e-3)
    assert fit.plot(tmp_path / "fit.png").stat().st_size > 1000


def test_the_line_to_paste_is_the_callback(tmp_path):
    pipe = GaussianPipeline(MEANS)
    fit = fit_raag(pipe, lambda run: draw(pipe, run))
    pasted = eval(repr(fit.callback), {"RAAG": RAAG})
    assert (pasted.w_max, pasted.alpha) == (fit.callback.w_max, fit.callback.alpha)
    assert repr(fit.callback) in str(fit)


def test_arguments_of_the_call_get_a_generator_of_each_run():
    pipe = tiny_sd3()
    seen = []
    original = type(pipe).__call__

    class Watching(type(pipe)):
        def __call__(self, *args, **kwargs):
            seen.append(kwargs["generator"].initial_seed())
            return original(self, *args, **kwargs)

    pipe.__class__ = Watching
    call = {"prompt": "a red circle", "num_inference_steps": 2, "max_sequence_length": 2, "output_type": "latent"}
    fit = fit_raag(pipe, call, last_weight=4.0, runs=2)
    assert seen == [0, 1] and len(fit.ratios) == 2


def test_what_cannot_be_fitted_is_refused():
    pipe = GaussianPipeline(MEANS)
    with pytest.raises(ValueError, match="ran without the unconditional pass"):
        fit_raag(pipe, lambda run: draw(pipe, run, weight=1.0))
    with pytest.raises(ValueError, match="1 < first_weight < last_weight"):
        fit_raag(pipe, lambda run: draw(pipe, run), first_weight=3.5)
    with pytest.raises(ValueError, match="runs must be at least 1"):
        fit_raag(pipe, {}, runs=0)
    with pytest.raises(ValueError, match="above the late one"):
        raag_constants(0.1, 0.2, 1.5, 3.0)
