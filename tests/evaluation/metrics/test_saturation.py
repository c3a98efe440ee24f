import colorsys

import numpy as np
import pytest
import torch
from PIL import Image, ImageStat

from diffusion_guidance.evaluation.metrics.saturation import contrast, saturation


def images(batch: int = 3, side: int = 9) -> torch.Tensor:
    whole = torch.randint(0, 256, (batch, 3, side, side), generator=torch.Generator().manual_seed(0))
    return whole.float() / 255


def test_saturation_is_that_of_colorsys():
    found = saturation(images())
    for k, image in enumerate(images()):
        pixels = image.permute(1, 2, 0).reshape(-1, 3).tolist()
        expected = np.mean([colorsys.rgb_to_hsv(*pixel)[1] for pixel in pixels])
        assert found[k].item() == pytest.approx(expected, abs=1e-5)


def test_contrast_is_the_deviation_of_pillows_luma():
    """Within its rounding to 8 bits."""
    found = contrast(images())
    for k, image in enumerate(images()):
        image = Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).convert("L")
        assert found[k].item() == pytest.approx(ImageStat.Stat(image).stddev[0] / 255, abs=2e-3)


def test_closed_forms():
    grey, red = torch.full((1, 3, 4, 4), 0.3), torch.zeros(1, 3, 4, 4)
    red[:, 0] = 0.5
    halves = torch.zeros(1, 3, 4, 4)
    halves[..., :2] = 1
    assert saturation(torch.cat([grey, red, halves, torch.zeros(1, 3, 4, 4)])).tolist() == [0, 1, 0, 0]
    assert contrast(torch.cat([grey, halves])).tolist() == pytest.approx([0, 0.5])


@pytest.mark.parametrize("measure", [saturation, contrast])
def test_other_shapes_are_refused(measure):
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\)"):
        measure(torch.zeros(2, 1, 4, 4))
