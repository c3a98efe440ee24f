"""Watching a pipeline: the scores are those of the images that come out, and the pipeline is restored exactly."""

import copy
import inspect

import numpy as np
import pytest
import torch

from diffusion_guidance import CFG, attach, detect
from diffusion_guidance.detection import Calibration, Encoder
from diffusion_guidance.detection.rigid import Detector
from diffusion_guidance.networks.extractors import Transform
from diffusion_guidance.pipelines import ClassConditionalPipeline

from ..nosync import NoSynchronisation
from ..tiny import PROMPTS, draw_dit, draw_sd3, tiny_dit, tiny_sd3


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(8, 3, 4, 4, generator=generator))

    def forward(self, images):
        return torch.nn.functional.conv2d(images, self.weight, stride=4).relu().mean((2, 3))


def detector(low: float | None = None) -> Detector:
    found = Detector(Encoder("net", Net(), Transform(16, mode="bilinear")), noise=0.3)
    if low is None:
        return found
    return found.with_calibration(Calibration(low, (low, low), (low, low), 0.05, 100, found.identity))


def test_the_scores_are_those_of_the_images():
    pipe, watching = tiny_sd3(), detector()
    plain = draw_sd3(pipe, output_type="pil")
    with detect(pipe, watching) as watch:
        kwargs = {"num_inference_steps": 3, "guidance_scale": 5.0, "max_sequence_length": 2}
        for kind in ("pil", "np", "pt"):
            output = pipe(PROMPTS, generator=torch.Generator().manual_seed(0), output_type=kind, **kwargs)
            if kind == "pt":
                expected = watching.score(output.images)
            elif kind == "pil":
                assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(plain, output.images, strict=True))
            scores = output.detection.scores
        assert output.detection is watch.detection
        assert output.detection.verdicts is None
        torch.testing.assert_close(scores, expected, rtol=0, atol=0)
        # Noise comes from 8-bit pixels, so the written image has the same noise and nearly the same score.
        arrays = torch.stack([torch.from_numpy(np.array(image)) for image in plain]).permute(0, 3, 1, 2) / 255
        torch.testing.assert_close(watching.score(arrays), scores, rtol=0, atol=1e-3)
        pipe(PROMPTS, generator=torch.Generator().manual_seed(0), output_type="pt", return_dict=False, **kwargs)
        torch.testing.assert_close(watch.detection.scores, expected, rtol=0, atol=0)
        assert pipe(PROMPTS[0], output_type="latent", **kwargs).detection is None
    assert expected.std() > 0


@pytest.mark.parametrize("first", ["detect", "attach"])
def test_it_goes_together_with_attach(first):
    pipe = tiny_sd3()
    guided = draw_sd3(pipe, weight=3.0, output_type="pt")
    ways = {"detect": lambda: detect(pipe, detector()), "attach": lambda: attach(pipe, CFG(3.0))}
    second = ({*ways} - {first}).pop()
    with ways[first]() as outer, ways[second]() as inner:
        torch.testing.assert_close(draw_sd3(pipe, weight=5.0, output_type="pt"), guided, rtol=1e-4, atol=1e-5)
        watch = outer if first == "detect" else inner
        torch.testing.assert_close(watch.detection.scores, detector().score(guided), rtol=0, atol=1e-4)
    assert type(pipe).__name__ == "StableDiffusion3Pipeline"
    assert "postprocess" not in pipe.image_processor.__dict__


def test_a_pipeline_without_an_image_processor_is_seen_where_it_decodes():
    pipe = tiny_dit()
    with detect(pipe, detector()) as watch:
        images = torch.as_tensor(draw_dit(pipe, output_type="np")).permute(0, 3, 1, 2)
        torch.testing.assert_close(watch.detection.scores, detector().score(images), rtol=0, atol=1e-5)
    assert "decode" not in pipe.vae.__dict__


def test_grey_images_and_our_own_pipelines():
    source = tiny_dit(learn_sigma=False)
    torch.manual_seed(0)
    transformer = type(source.transformer)(**{**source.transformer.config, "in_channels": 1, "out_channels": 1})
    pipe = ClassConditionalPipeline(transformer.eval(), source.scheduler)
    pipe.set_progress_bar_config(disable=True)
    with detect(pipe, detector()):
        output = pipe([1, 2], num_inference_steps=2, output_type="pt", guidance=[CFG(2.0)])
    expected = detector().score(output.images.expand(-1, 3, -1, -1))
    torch.testing.assert_close(output.detection.scores, expected, rtol=0, atol=0)


def test_verdicts_follow_the_calibration():
    pipe = tiny_dit()
    for low, verdict in ((-2.0, "real"), (2.0, "generated")):
        with detect(pipe, detector(low)) as watch:
            draw_dit(pipe)
        assert watch.detection.verdicts == [verdict, verdict]
    assert "generated" in repr(watch.detection)


def test_the_pipeline_is_restored_exactly():
    pipe = tiny_sd3()
    before, signature = type(pipe), inspect.signature(type(pipe).__call__)
    watch = detect(pipe, detector())
    assert isinstance(pipe, before)
    assert type(pipe).__name__ == before.__name__
    assert inspect.signature(type(pipe).__call__) == signature
    with pytest.raises(RuntimeError, match="watches this StableDiffusion3Pipeline already"):
        detect(pipe, detector())
    watch.detach()
    watch.detach()
    assert type(pipe) is before
    with pytest.raises(ZeroDivisionError), detect(pipe, detector()):
        raise ZeroDivisionError
    assert type(pipe) is before
    with pytest.raises(ValueError, match="no image_processor and no vae"):
        detect(torch.nn.Identity(), detector())


def test_a_copy_is_not_watched():
    pipe = tiny_dit()
    with detect(pipe, detector()) as watch:
        other = copy.copy(pipe)
        output = other([0], num_inference_steps=1, output_type="pt")
    assert watch.detection is None
    assert not hasattr(output, "detection")


def test_scoring_waits_for_no_device():
    images, watching = torch.rand(3, 3, 20, 20), detector(0.5)
    with detect(tiny_dit(), watching) as watch, NoSynchronisation():
        watch._see(images)
