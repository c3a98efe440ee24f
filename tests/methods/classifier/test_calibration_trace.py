from pathlib import Path

import pytest
import torch

from diffusion_guidance import CFG, CalibrationTrace, attach, fit_temperatures, latent_decoder
from diffusion_guidance.methods.classifier.temperatures import calibration
from diffusion_guidance.pipelines import ClassConditionalPipeline
from diffusion_guidance.worlds.digits_classifier import DigitsClassifier

from ...nosync import NoSynchronisation
from ...tiny import draw_dit, draw_sd3, tiny_dit, tiny_sd3


ASSETS = Path(__file__).parents[3] / "assets"


@pytest.fixture(scope="module")
def pipe():
    pipe = ClassConditionalPipeline.from_pretrained(ASSETS / "digits")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def classifier():
    return DigitsClassifier.from_pretrained(ASSETS / "digits-classifier").eval()


def draw(pipe, classes, weight=1.0, steps=4, seed=0):
    noise = torch.Generator().manual_seed(seed)
    call = {"generator": noise, "output_type": "latent", "guidance_scale": weight, "num_inference_steps": steps}
    return pipe(classes, **call).images


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_logits_are_those_of_the_estimates_and_labels_those_of_the_call(pipe, classifier, weight):
    trace, expected = CalibrationTrace(classifier), []

    def keep(step, proceed):
        prediction = proceed(step)
        estimate = (step.sample.double() - step.sigma.double() * prediction.double()) / step.alpha.double()
        expected.append(classifier(estimate.clamp(-1, 1)))
        return prediction

    with attach(pipe, [keep, trace]):
        draw(pipe, [3, 1, 4], weight)
        draw(pipe, [1, 5], weight)
    logits, labels = trace.collected()
    assert labels.tolist() == [3, 1, 4, 1, 5] and logits.shape == (4, 5, 10)
    both = [torch.cat([first, second]) for first, second in zip(expected[:4], expected[4:], strict=True)]
    torch.testing.assert_close(logits, torch.stack(both), atol=1e-3, rtol=1e-4)


def test_it_changes_nothing_and_waits_for_nothing(pipe, classifier):
    plain, waiting = draw(pipe, [3, 1], 2.0), []

    def watch(step, proceed):
        with NoSynchronisation():
            waiting.append(step.index)
            return proceed(step)

    with attach(pipe, [CFG(2.0), CalibrationTrace(classifier), watch]):
        assert torch.equal(draw(pipe, [3, 1], 2.0), plain)
    assert waiting == [0, 1, 2, 3]


def test_evaluations_that_a_callback_further_out_asks_for_are_not_recorded(pipe, classifier):
    trace, alone = CalibrationTrace(classifier), CalibrationTrace(classifier)

    def curious(step, proceed):
        proceed(step.at(step.sample + 1, timestep=step.timestep))
        return proceed(step)

    for guidance in ([alone], [trace, curious]):
        with attach(pipe, guidance):
            draw(pipe, [3, 1])
    assert trace.collected()[1].tolist() == [3, 1]
    torch.testing.assert_close(trace.collected()[0], alone.collected()[0])


def test_it_sees_what_stands_before_it(pipe, classifier):
    before, after = CalibrationTrace(classifier), CalibrationTrace(classifier)
    with attach(pipe, [CFG(1.0), before, lambda step, proceed: -proceed(step), after]):
        draw(pipe, [3, 1], 2.0)
    assert not torch.equal(before.collected()[0], after.collected()[0])


def test_the_report_has_a_row_a_step_with_its_level(pipe, classifier):
    trace = CalibrationTrace(classifier)
    with attach(pipe, trace):
        draw(pipe, list(range(10)) * 3)
    logits, labels = trace.collected()
    rows = trace.report([1.0, 0.5, 2.0, 1.0])
    for index, (row, tau) in enumerate(zip(rows, (1.0, 0.5, 2.0, 1.0), strict=True)):
        figures = calibration(tau * logits[index], labels)
        assert {name: row[name] for name in figures} == figures
        assert (row["step"], row["tau"], row["samples"]) == (index, tau, 30)
        assert row["timestep"] == pipe.scheduler.timesteps[index]
        assert row["alpha"] ** 2 == pytest.approx(float(pipe.scheduler.alphas_cumprod[int(row["timestep"])]), rel=1e-5)
        assert row["alpha"] ** 2 + row["sigma"] ** 2 == pytest.approx(1, rel=1e-5)
    assert [row["tau"] for row in trace.report(0.7)] == [0.7] * 4
    assert 0.01 < fit_temperatures(logits, labels)["tau_joint"] < 100


def test_a_window_of_steps(pipe, classifier):
    trace = CalibrationTrace(classifier, start=0.5)
    with attach(pipe, trace):
        draw(pipe, [1, 2])
        draw(pipe, [3])
    assert [row["step"] for row in trace.report()] == [2, 3] and trace.collected()[1].tolist() == [1, 2, 3]


def test_latents_are_decoded_by_the_pipelines_own_autoencoder_or_by_another_in_chunks():
    pipe = tiny_dit()
    seen = []

    def classifier(images):
        seen.append(images)
        return images.mean((2, 3))

    given = CalibrationTrace(lambda images: images.mean((2, 3)), decoder=latent_decoder(pipe.vae))
    with attach(pipe, [CalibrationTrace(classifier, chunk=1), given]):
        draw_dit(pipe, classes=(1, 0))
    assert len(seen) == 6 and {tuple(each.shape) for each in seen} == {(1, 3, 16, 16)}
    logits, labels = given.collected()
    expected = torch.stack([torch.cat(seen[i : i + 2]).mean((2, 3)) for i in (0, 2, 4)])
    torch.testing.assert_close(logits, expected)
    assert labels.tolist() == [1, 0]


def test_labels_of_a_text_to_image_pipeline_are_given():
    pipe, trace = tiny_sd3(), CalibrationTrace(lambda images: images.mean((2, 3)), labels=[2, 0])
    with attach(pipe, trace):
        draw_sd3(pipe, steps=2)
        trace.labels = 1
        draw_sd3(pipe, steps=2)
    assert trace.collected()[1].tolist() == [2, 0, 1, 1]
    trace.labels = [0, 1, 2]
    with attach(pipe, trace), pytest.raises(ValueError, match="3 class ids for 2 images"):
        draw_sd3(pipe, steps=2)
    with (
        attach(pipe, CalibrationTrace(lambda images: images.mean((2, 3)))),
        pytest.raises(ValueError, match="class_labels"),
    ):
        draw_sd3(pipe, steps=2)


def test_what_cannot_be_reported_says_why(pipe, classifier):
    trace = CalibrationTrace(classifier)
    with pytest.raises(ValueError, match="call the pipeline while the trace is attached"):
        trace.report()
    with attach(pipe, trace):
        draw(pipe, [1], steps=2)
        draw(pipe, [1], steps=3)
    with pytest.raises(ValueError, match="different numbers of steps"):
        trace.report()
    trace.clear()
    with attach(pipe, trace):
        draw(pipe, [1], steps=2)
    assert len(trace.report()) == 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_denoiser_in_half_precision(classifier, dtype):
    pipe = ClassConditionalPipeline.from_pretrained(ASSETS / "digits", dtype=dtype)
    pipe.set_progress_bar_config(disable=True)
    trace = CalibrationTrace(classifier)
    with attach(pipe, trace):
        draw(pipe, [1, 2], steps=2)
    assert trace.collected()[0].dtype == torch.float32 and trace.collected()[0].isfinite().all()
