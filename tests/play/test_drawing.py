"""Drawing for several at once: what each gets is what it would get alone, step by step."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from diffusion_guidance import APG, CFG, RAAG, attach
from diffusion_guidance.play.drawing import THREAD, draw, own_pipeline

from .small import PROMPT, request


def whole(found):
    return [each.image.tobytes() for each in found if each.trace is not None]


def test_watching_changes_nothing_and_shows_every_step(shapes):
    asked = request(2)
    found = list(draw(shapes, asked))
    assert [(each.column, each.done) for each in found] == [(c, n) for c in (0, 1) for n in (1, 2, 3, 3)]
    assert [each.evaluations for each in found if each.trace] == [3, 3]
    for guidance, image in zip(asked.guidance, whole(found), strict=True):
        with attach(shapes, guidance):
            call = {"max_sequence_length": 1, "num_inference_steps": 3, "guidance_scale": 3.0}
            plain = shapes(PROMPT, generator=torch.Generator().manual_seed(2), **call).images[0]
        assert plain.tobytes() == image


def test_the_last_preview_is_nearly_the_image(shapes):
    """The estimate of the last step is where the sampler goes, except for rounding to 8 bits."""
    *_, preview, image = (each.image for each in draw(shapes, request()) if each.column == 0)
    difference = (torch.tensor(list(preview.tobytes())) - torch.tensor(list(image.tobytes()))).abs()
    assert difference.max() <= 1
    first = next(draw(shapes, request())).image
    assert first.tobytes() != image.tobytes()


def test_two_at_once_get_what_they_get_alone(shapes):
    asked = [request(seed, [[CFG(4.0)], [APG(4.0), RAAG(5.0, 2.0)][seed % 2 :][:1]], steps=4) for seed in range(4)]
    alone = [whole(draw(shapes, each)) for each in asked]
    again = [request(each.seed, each.guidance, steps=4) for each in asked]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda each: whole(draw(shapes, each)), again))
    assert together == alone and len({image for pair in alone for image in pair}) == 8


def test_a_pipeline_of_its_own_shares_the_networks_only(shapes):
    own = own_pipeline(shapes)
    assert own.transformer is shapes.transformer and own.vae is shapes.vae
    assert own.scheduler is not shapes.scheduler and own.tokenizer is not shapes.tokenizer
    assert own.components["scheduler"] is own.scheduler and shapes.components["scheduler"] is shapes.scheduler


def test_who_leaves_ends_the_drawing(shapes):
    steps = []

    def count(step, proceed):
        steps.append(step.index)
        return proceed(step)

    found = draw(shapes, request(0, [[count], [count]], steps=500))
    next(found)
    found.close()
    for thread in [each for each in threading.enumerate() if each.name == THREAD]:
        thread.join(60)
        assert not thread.is_alive()
    assert len(steps) < 400


def test_what_a_callback_raises_arrives(shapes):
    def fail(step, proceed):
        raise ValueError("not today")

    with pytest.raises(ValueError, match="not today"):
        list(draw(shapes, request(0, [[], [fail]])))
