import pytest
import torch

from diffusion_guidance.worlds import BACKGROUNDS, COLOURS, QUADRANTS, SHAPES, Scenes, parse_captions
from diffusion_guidance.worlds.shapes import vocabulary
from diffusion_guidance.worlds.shapes_measure import caption
from diffusion_guidance.worlds.shapes_model import PARTS, build_tokenizer


def scenes(count: int, seed: int = 0) -> Scenes:
    return Scenes.sample(count, torch.Generator().manual_seed(seed))


def test_images_are_seeded_and_in_range():
    images = scenes(16).render()
    assert images.shape == (16, 3, 32, 32) and images.dtype == torch.float32
    assert images.min() >= 0 and images.max() <= 1
    assert torch.equal(images, scenes(16).render()) and not torch.equal(images, scenes(16, seed=1).render())


def test_a_scene_is_drawn_the_same_alone_and_in_a_batch():
    batch = scenes(8)
    for i in range(8):
        torch.testing.assert_close(batch[i : i + 1].render()[0], batch.render()[i])


def test_every_value_of_every_attribute_occurs():
    attributes = scenes(2000).attributes()
    for column, options in enumerate([len(SHAPES), len(COLOURS)] * 4):
        assert set(attributes[:, column].tolist()) == set(range(options + 1))
    assert set(attributes[:, 8].tolist()) == set(range(len(BACKGROUNDS)))
    occupied = attributes[:, 0:8:2] > 0
    assert (occupied.sum(1) == 2).all()
    assert torch.equal(occupied, attributes[:, 1:8:2] > 0)


def test_empty_quadrants_show_the_background_and_full_ones_the_colour():
    from diffusion_guidance.worlds.shapes import _BACKGROUND_RGB, _RGB

    batch = scenes(64)
    images, attributes = batch.render(), batch.attributes()
    corners = [(0, 0), (0, 16), (16, 0), (16, 16)]
    for image, row in zip(images, attributes, strict=True):
        ground = (_BACKGROUND_RGB[row[8]] / 255)[:, None, None]
        for quadrant, (top, left) in enumerate(corners):
            patch = image[:, top : top + 16, left : left + 16]
            if row[2 * quadrant] == 0:
                assert torch.equal(patch, ground.expand(3, 16, 16))
            else:  # every shape covers the centre of its quadrant, and none a corner
                colour = _RGB[row[2 * quadrant + 1] - 1] / 255
                torch.testing.assert_close(patch[:, 8, 8], colour)
                tips = patch[:, [0, 0, -1, -1], [0, -1, 0, -1]]
                torch.testing.assert_close(tips, ground[:, :, 0].expand_as(tips))


def test_areas_are_those_of_geometry():
    """Mean cover of a circle is pi r^2, of a square (2 * 0.82 r)^2: the anti-aliasing keeps the area."""
    batch = scenes(400)
    ground = batch.background
    for shape, area in (("circle", torch.pi * 0.9**2), ("square", 1.64**2)):
        for i in torch.nonzero(batch.shape[:, 0] == SHAPES.index(shape))[:20, 0].tolist():
            quadrant, colour = batch.quadrant[i, 0].item(), batch.colour[i, 0].item()
            top, left = 16 * (quadrant // 2), 16 * (quadrant % 2)
            patch = batch[i : i + 1].render()[0, :, top : top + 16, left : left + 16]
            from diffusion_guidance.worlds.shapes import _BACKGROUND_RGB, _RGB

            back, front = _BACKGROUND_RGB[ground[i]] / 255, _RGB[colour] / 255
            channel = (front - back).abs().argmax()
            cover = (patch[channel] - back[channel]) / (front[channel] - back[channel])
            assert cover.sum() == pytest.approx(area * batch.radius[i, 0].item() ** 2, rel=0.05)


def test_captions_and_attributes_are_inverse():
    batch = scenes(500)
    assert torch.equal(parse_captions(batch.captions()), batch.attributes())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "an astronaut",
        "a red circle at the top left on a dark background",
        "a red circle at the top left and a blue star at the top left on a dark background",
        "a red circle at the top left and a blue star at the bottom right",
    ],
)
def test_other_sentences_are_refused_with_an_example(text):
    with pytest.raises(ValueError, match=r"not a caption of the shapes world.*expected for example"):
        parse_captions([text])


def test_every_word_is_one_token_and_every_caption_fits():
    tokenizer = build_tokenizer()
    assert all(len(tokenizer.tokenize(word)) == 1 for word in vocabulary())
    lengths = {len(ids) for ids in tokenizer(scenes(500).captions()).input_ids}
    assert max(lengths) <= PARTS.text_tokens
    assert set(" ".join(scenes(2000).captions()).split()) == set(vocabulary())
    assert tokenizer.decode(tokenizer(caption(0)).input_ids, skip_special_tokens=True) == caption(0)


def test_a_seed_has_a_caption_of_its_own():
    captions = [caption(seed) for seed in range(50)]
    assert captions == [caption(seed) for seed in range(50)] and len(set(captions)) > 45
    assert all(any(place in text for place in QUADRANTS) for text in captions)
