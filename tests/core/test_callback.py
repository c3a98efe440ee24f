import pytest
import torch
from diffusers.guiders import ClassifierFreeGuidance

from diffusion_guidance import CFG, RAAG, Callback, CallbackGuider, Trace, attach, chain

from ..gaussian import GaussianPipeline


@pytest.fixture
def pipe():
    return GaussianPipeline(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))


def run(pipe, guidance, steps: int = 4, **kwargs) -> torch.Tensor:
    noise = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    with attach(pipe, guidance):
        return pipe([0, 2], noise, num_inference_steps=steps, **kwargs).images


def test_the_first_of_a_list_is_nearest_to_the_network(pipe):
    order = []

    def named(name):
        def callback(step, proceed):
            order.append(f"{name} in")
            prediction = proceed(step)
            order.append(f"{name} out")
            return prediction

        return callback

    run(pipe, [named("first"), named("last")], steps=1)
    assert order == ["last in", "first in", "first out", "last out"]


def test_a_combiner_at_the_front_feeds_those_behind_it(pipe):
    def double(step, proceed):
        return 2 * proceed(step)

    def doubled_cfg(step, proceed):
        return 2 * (step.uncond + 3.0 * (step.cond - step.uncond))

    assert torch.equal(run(pipe, [CFG(3.0), double]), run(pipe, doubled_cfg))
    with pytest.raises(ValueError, match="double has no effect before CFG"):
        run(pipe, [double, CFG(3.0)])


def test_an_empty_chain_is_the_pipeline(pipe):
    noise = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    plain = pipe([0, 2], noise, num_inference_steps=4).images
    assert torch.equal(run(pipe, []), plain)
    asked = []
    run(pipe, lambda step, proceed: asked.append((chain([])(step), proceed(step))) or asked[-1][0], steps=2)
    assert len(asked) == 2 and all(empty is own for empty, own in asked)


@pytest.mark.parametrize("start, stop, active", [(0, 1, 10), (0.3, 1, 7), (0, 0.5, 5), (0.2, 0.6, 4), (0.5, 0.5, 0)])
def test_the_window_counts_fractions_of_the_steps(pipe, start, stop, active):
    class Count(Callback):
        def __init__(self):
            super().__init__(start, stop)
            self.indices = []

        def guide(self, step, proceed):
            self.indices.append(step.index)
            return proceed(step)

    count = Count()
    run(pipe, count, steps=10)
    assert count.indices == list(range(int(start * 10), int(start * 10) + active))


@pytest.mark.parametrize("window", [(-0.1, 1.0), (0.0, 1.1), (0.8, 0.2)])
def test_a_window_outside_zero_to_one_is_refused(window):
    with pytest.raises(ValueError, match="0 <= start <= stop <= 1"):
        RAAG(start=window[0], stop=window[1])


@pytest.mark.parametrize("wrong", [None, torch.zeros(1, 4), 3.0])
def test_a_callback_that_returns_no_prediction_is_named(pipe, wrong):
    def broken(step, proceed):
        return wrong

    with pytest.raises(ValueError, match=r"broken.*returned .* a tensor of shape \(2, 4\)"):
        run(pipe, broken)


def test_a_class_or_a_number_is_no_callback(pipe):
    with pytest.raises(TypeError, match=r"RAAG is a class; pass an instance, RAAG\(\)"):
        attach(pipe, RAAG)
    for wrong in ([Trace(), 7], None, "raag"):
        with pytest.raises(TypeError, match="a function of"):
            attach(pipe, wrong)


def test_a_guider_is_told_how_to_come_along(pipe):
    for guider in (ClassifierFreeGuidance(), CallbackGuider(RAAG())):
        with pytest.raises(TypeError, match=r"guider for modular pipelines; elsewhere pass GuiderCallback\(guider\)"):
            attach(pipe, guider)


def test_a_step_cannot_be_changed(pipe):
    def meddle(step, proceed):
        step.sample = step.sample + 1

    with pytest.raises(AttributeError, match="sample"):
        run(pipe, meddle)


def test_a_callback_shows_its_settings():
    assert repr(RAAG(w_max=5.0, alpha=2.0)) == "RAAG(w_max=5.0, alpha=2.0, start=0.0, stop=1.0)"
