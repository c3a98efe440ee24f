"""The sanity check of a calibration, on encoders whose faults are known, and the cautions that follow."""

import math

import pytest
import torch

from diffusion_guidance.detection.cautions import (
    BICUBIC,
    BLUR,
    NOISE,
    Check,
    ImageKinds,
    difference_cautions,
    encoder_cautions,
    sanity_table,
)
from diffusion_guidance.detection.corruptions import corrupt
from diffusion_guidance.detection.rigid import Detector
from diffusion_guidance.detection.sanity import sanity_check
from diffusion_guidance.networks.encoders import load_encoder


def edges(images: torch.Tensor) -> torch.Tensor:
    """Differences of neighbours: the sharper an image, the less its features turn with noise."""
    return (images[..., 1:] - images[..., :-1]).flatten(1)


def real(count: int) -> list[torch.Tensor]:
    """Sharp images of several sizes: checks of two random colours, with a slope."""
    draw, images = torch.Generator().manual_seed(0), []
    for number in range(count):
        height, width = 24 + number % 3, 32 - number % 5
        rows, columns = torch.arange(height)[:, None] // 4, torch.arange(width) // 4
        colours = torch.rand(3, 2, generator=draw) * 0.2 + torch.tensor([0.0, 0.6])
        image = colours[:, ((rows + columns) % 2)] + torch.linspace(0, 0.2, width)
        images.append((image[None] * 255).round() / 255)
    return images


def test_an_encoder_of_edges_is_found_out():
    detector, images = Detector(load_encoder(edges)), real(60)
    threshold = torch.cat([detector.score(image) for image in images]).double().quantile(0.05).item()
    checks = sanity_check(detector, images, threshold)
    # By hand, each image alone.
    for check, name in zip(checks[1:], ("blur 1.0", "resize 0.5"), strict=True):
        scores = torch.cat([detector.score(corrupt(image, name)) for image in images])
        assert check.generated == (scores < threshold).sum().item() > 30
    assert [check.images for check in checks] == [NOISE, BLUR, BICUBIC]
    assert checks[0] == Check(NOISE, 60, 0), "noise is all edges"
    said = [caution for check in checks for caution in check.cautions(0.05)]
    assert said[0] == "uniform noise counts as real for this encoder (0 of 60 called generated)"
    assert len(said) == 3 and all("depends on sharpness" in caution for caution in said[1:])
    table = sanity_table(checks, 0.05).splitlines()
    assert len(table) == 4 and table[1].split() == ["uniform", "noise", "0"]
    with pytest.raises(ValueError, match="at least one image"):
        sanity_check(detector, [], threshold)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
def test_a_caution_needs_more_than_chance(rate):
    for count in range(51):
        tail = sum(math.comb(50, k) * rate**k * (1 - rate) ** (50 - k) for k in range(count, 51))
        assert bool(Check(BLUR, 50, count).cautions(rate)) == (tail < 0.01)
        assert bool(Check(NOISE, 50, count).cautions(rate)) == (count < 25)
    for wrong in ((0, 0), (3, 4), (3, -1)):
        with pytest.raises(ValueError, match="cannot be"):
            Check(BLUR, *wrong)


@pytest.mark.parametrize(
    ("name", "cautioned"),
    [
        ("timm/vit_large_patch14_dinov2.lvd142m", False),
        ("timm/vit_large_patch14_dinov2", False),
        ("timm/vit_base_patch14_dinov2.lvd142m", True),
        ("random/vit_large_patch14_dinov2/0", True),
        ("local/patch-encoder", True),
    ],
)
def test_encoders_other_than_the_papers(name, cautioned):
    assert [name in caution for caution in encoder_cautions({"encoder": name})] == [True] * cautioned
    assert encoder_cautions({})


def test_images_unlike_those_of_the_calibration():
    known = ImageKinds.of([("PNG", 4096), ("JPEG", 10_000), ("PNG", 5000)])
    assert known == ImageKinds(("JPEG", "PNG"), (4096, 10_000))
    alike = {("PNG", 4096): 3, ("JPEG", 15_000): 2, ("PNG", 2731): 1}
    assert not difference_cautions(alike, known, "the others")
    other = {("WEBP", 4096): 1, ("PNG", 2730): 2, ("PNG", 15_001): 4}
    (said,) = difference_cautions(alike | other, known, "the others")
    assert said.startswith("7 of 13 images differ in format or size from the others (JPEG, PNG, 4096 to 10000 pixels)")
