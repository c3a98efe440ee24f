"""Noise of an image: Gaussian, independent between images and draws, and a function of the image alone."""

import numpy as np
import pytest
import torch
from scipy import stats

from diffusion_guidance.detection.content_noise import content_noise, content_seeds


MASK = 2**64 - 1


def random_images(count: int = 6, size: tuple[int, int] = (9, 7)) -> torch.Tensor:
    return torch.randint(256, (count, 3, *size), generator=torch.Generator().manual_seed(0)) / 255


def split_mix(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & MASK
    value = (value ^ value >> 27) * 0x94D049BB133111EB & MASK
    return value ^ value >> 31


def test_noise_equals_whole_number_arithmetic_in_python():
    seed, count = -1234567890123456789, 11
    pairs = (count + 1) // 2
    bits = [split_mix((seed + k * 0x9E3779B97F4A7C15) & MASK) for k in range(1, pairs + 1)]
    radius = np.sqrt(-2 * np.log([((value >> 40) + 1) / 2**24 for value in bits]))
    angle = 2 * np.pi * np.array([(value >> 8 & 0xFFFFFF) / 2**24 for value in bits])
    expected = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
    found = content_noise(torch.tensor([seed]), (count,))
    np.testing.assert_allclose(found[0].double(), expected, atol=3e-6)


def test_seeds_equal_whole_number_arithmetic_in_python():
    """They are part of what a stored calibration rests on, so they never change."""
    image = random_images(1)
    values = [round(value * 255) for value in image.flatten().tolist()]
    gamma = 0x9E3779B97F4A7C15
    total = sum((value + 1) * (split_mix(place * gamma & MASK) | 1) for place, value in enumerate(values)) & MASK
    expected = split_mix((split_mix(total) + (7 << 16 | 9) * gamma) & MASK)
    assert content_seeds(image).item() & MASK == expected


def test_a_seed_belongs_to_the_image_alone():
    images = random_images()
    seeds = content_seeds(images)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.equal(content_seeds(images[order]), seeds[order])
    assert torch.equal(torch.cat([content_seeds(image[None]) for image in images]), seeds)
    assert torch.equal(content_seeds(images.double()), seeds)
    assert torch.equal(content_seeds(images + 1e-4), seeds)  # less than half of an 8-bit value
    assert torch.equal(content_seeds(images.contiguous(memory_format=torch.channels_last)), seeds)


def test_any_change_of_the_image_changes_the_seed():
    image = random_images(1)
    changed = [image.flip(-1), image.flip(1), image.roll(1, -1), image.reshape(1, 3, 7, 9), image.mT]
    for position in range(0, image.numel(), 5):
        other = image.clone().flatten()
        other[position] = 1 - other[position]
        changed.append(other.view_as(image))
    seeds = [int(content_seeds(other)) for other in [image, *changed]]
    assert len(set(seeds)) == len(seeds)
    # Plain images too, of any size.
    plain = [int(content_seeds(torch.full((1, 3, size, size), grey))) for size in (1, 2, 3) for grey in (0.0, 0.5, 1.0)]
    assert len(set(plain)) == len(plain)


def test_noise_is_unit_gaussian():
    noise = content_noise(content_seeds(random_images(4)), (3, 200, 100)).double().flatten().numpy()
    assert stats.kstest(noise, "norm").pvalue > 1e-3
    count = len(noise)
    for power, expected, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((noise**power).mean() - expected) < 4 * (spread / count) ** 0.5


def test_streams_are_independent():
    seeds = torch.tensor([0, 1, 2, -1, 2**62])  # neighbours too
    noise = content_noise(seeds, (4, 10_000)).double().flatten(0, 1).numpy()
    correlation = np.corrcoef(np.concatenate([noise, np.roll(noise, 1, 1), noise**2]))
    np.fill_diagonal(correlation, 0)
    assert np.abs(correlation).max() < 6 / 10_000**0.5


def test_noise_is_a_function_of_the_seed_alone():
    seeds = content_seeds(random_images())
    noise = content_noise(seeds, (2, 3, 5, 5))
    assert noise.shape == (6, 2, 3, 5, 5)
    assert noise.dtype == torch.float32
    alone = torch.cat([content_noise(seed[None], (2, 3, 5, 5)) for seed in seeds])
    torch.testing.assert_close(alone, noise, rtol=0, atol=2e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_gives_the_noise_of_the_cpu():
    images = random_images()
    seeds = content_seeds(images.cuda())
    assert torch.equal(seeds.cpu(), content_seeds(images))
    found = content_noise(seeds, (3, 64, 64)).cpu()
    torch.testing.assert_close(found, content_noise(seeds.cpu(), (3, 64, 64)), rtol=0, atol=1e-5)
