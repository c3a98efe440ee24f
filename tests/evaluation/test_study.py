from types import SimpleNamespace

import pytest
import torch

from diffusion_guidance.evaluation import Reference, Subject
from diffusion_guidance.evaluation.study import Setting, row_name, study


class Painter:
    """Stands for a pipeline: images are the generators' first numbers, times a brightness."""

    def __init__(self, brightness: float):
        self.brightness, self.calls = brightness, 0
        self.scheduler = SimpleNamespace(timesteps=range(3))

    def __call__(self, class_labels, generator, output_type, num_inference_steps):
        self.calls += 1
        noise = torch.stack([torch.rand(1, 4, 4, generator=each) for each in generator])
        return SimpleNamespace(images=noise * self.brightness)


def subject():
    def measure(images, seeds):
        return {"features": images.flatten(1), "accuracy": images.mean((1, 2, 3)) < 0.5}

    real = Reference.of(torch.rand(200, 16, generator=torch.Generator().manual_seed(1)))
    return Subject(lambda seed: seed % 10, measure, real, {"conditions": "none"})


def test_a_study_measures_every_row_and_a_second_run_draws_nothing(tmp_path):
    painters = {1.0: Painter(1.0), 0.5: Painter(0.5)}
    table = [{"method": "paint", "weight": weight} for weight in painters]

    def run():
        return study(
            table,
            lambda row: Setting(painters[row["weight"]], [], {"num_inference_steps": 3}, subject()),
            tmp_path,
            range(100),
            batch_size=30,
        )

    first = run()
    assert [row["weight"] for row in first] == [1.0, 0.5]
    assert first[0]["frechet"] < first[1]["frechet"]
    assert all(row["nfe"] == 3 and row["samples"] == 100 and "accuracy_interval" in row for row in first)
    calls = [painter.calls for painter in painters.values()]
    assert calls == [4, 4]
    assert run() == first
    assert [painter.calls for painter in painters.values()] == calls


def test_rows_that_differ_have_folders_that_differ():
    assert row_name({"method": "a/b", "x": 1}) != row_name({"method": "a_b", "x": 1})
    assert "/" not in row_name({"method": "a/b"})


@pytest.mark.parametrize(
    ("call", "factor", "dim", "measures", "message"),
    [
        ({"nonesuch": 1}, 1.0, 16, ["frechet"], "Painter takes no nonesuch"),
        ({}, float("nan"), 16, ["frechet"], "feature vectors are not finite"),
        ({}, 1.0, 5, ["frechet"], "of 16 dimensions cannot be compared with a reference of 5"),
        ({}, 1.0, 16, ["inception_score"], "needs logits"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_stored(tmp_path, call, factor, dim, measures, message):
    def measure(images, seeds):
        return {"features": images.flatten(1) * factor}

    asked = Subject(lambda seed: seed % 10, measure, Reference.of(torch.rand(9, dim)), {})
    call = {"num_inference_steps": 3, **call}
    with pytest.raises(ValueError, match=message):
        study([{"x": 1}], lambda row: Setting(Painter(1.0), [], call, asked), tmp_path, range(8), measures=measures)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_an_impossible_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one sample"):
        study([{"method": "x"}], lambda row: Setting(Painter(1.0), [], {}, subject()), tmp_path, [], batch_size=3)
