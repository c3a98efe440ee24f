import json

import pytest
import torch
from PIL import Image

from diffusion_guidance import CFG, RAAG, Trace, attach
from diffusion_guidance.methods.trace import _limits

from ..tiny import PROMPTS, draw_sd3, tiny_sd3


@pytest.fixture(scope="module")
def pipe():
    return tiny_sd3()


@pytest.fixture(scope="module")
def traced(pipe):
    trace, steps = Trace(), []

    def keep(step, proceed):
        steps.append((step, proceed(step)))
        return steps[-1][1]

    with attach(pipe, [RAAG(w_max=5, alpha=2), keep, trace]):
        draw_sd3(pipe)
    return trace, steps


def test_values_are_those_of_the_steps(traced):
    trace, steps = traced
    data = trace.to_dict()
    for i, (step, prediction) in enumerate(steps):
        for b in range(2):
            cond, uncond = step.cond[b].double(), step.uncond[b].double()
            ratio = (cond - uncond).norm() / uncond.norm()
            expected = {
                "cond_norm": cond.norm(),
                "uncond_norm": uncond.norm(),
                "prediction_norm": prediction[b].double().norm(),
                "sample_norm": step.sample[b].double().norm(),
                "ratio": ratio,
                "weight": 1 + 4 * torch.exp(-2 * ratio),
            }
            for name, value in expected.items():
                torch.testing.assert_close(data[name][i, b].double(), value, atol=1e-4, rtol=1e-4)
        assert data["timestep"][i] == step.timestep and data["alpha"][i] + data["sigma"][i] == 1


def test_it_changes_nothing(pipe):
    plain = draw_sd3(pipe)
    with attach(pipe, Trace()):
        assert torch.equal(draw_sd3(pipe), plain)


def test_each_call_is_a_run_of_its_own(pipe):
    trace = Trace()
    with attach(pipe, [CFG(2.0), trace]):
        draw_sd3(pipe, steps=2)
        draw_sd3(pipe, PROMPTS[:1], steps=4)
    assert [trace.to_dict(run)["ratio"].shape for run in (0, 1)] == [(2, 2), (4, 1)]
    trace.clear()
    assert trace.runs == []


def test_it_sees_what_stands_before_it_in_the_list(pipe):
    before, after = Trace(), Trace()
    with attach(pipe, [CFG(2.0), before, lambda step, proceed: 3 * proceed(step), after]):
        draw_sd3(pipe)
    torch.testing.assert_close(3 * before.to_dict()["prediction_norm"], after.to_dict()["prediction_norm"])


def test_notes_of_other_callbacks_are_kept(pipe):
    trace = Trace()

    def note(step, proceed):
        step.notes["index"] = torch.full((2,), float(step.index))
        return proceed(step)

    with attach(pipe, [note, trace]):
        draw_sd3(pipe)
    assert trace.to_dict()["index"].tolist() == [[0, 0], [1, 1], [2, 2]]


def test_json_and_plot(traced, tmp_path):
    trace, _ = traced
    runs = json.loads(trace.to_json(tmp_path / "trace.json").read_text())["runs"]
    torch.testing.assert_close(torch.tensor(runs[0]["ratio"]), trace.to_dict()["ratio"])
    figure = trace.plot(tmp_path / "trace.png", names=("ratio", "sigma"))
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook shows
    with Image.open(tmp_path / "trace.png") as image:
        assert image.width > 800
    with pytest.raises(ValueError, match="the trace has no speed; it has "):
        trace.plot(tmp_path / "other.png", names=("speed",))


def test_rounding_does_not_look_like_a_change():
    for value in (7.0, -7.0):
        ends = _limits(torch.tensor([value, value + 1e-5, float("nan")]))["ylim"]
        assert ends == pytest.approx((value - 0.35, value + 0.35), abs=1e-4)
    assert _limits(torch.tensor([7.0, 8.0])) == _limits(torch.tensor([float("nan")])) == {}
    assert _limits(torch.zeros(3))["ylim"] == (-0.5, 0.5)


def test_an_empty_trace_says_what_to_do():
    with pytest.raises(ValueError, match="call the pipeline while the trace is attached"):
        Trace().to_dict()


def test_values_stay_where_they_are_until_asked_for(traced):
    trace, steps = traced
    assert all(value.device == steps[0][0].sample.device for value in trace.runs[0]["ratio"])
