"""RIGID: equality with the published computation, closed forms, and scores that depend on the image alone."""

import math

import pytest
import timm
import torch
from scipy import ndimage

from diffusion_guidance.detection import Encoder, random_encoder
from diffusion_guidance.detection.content_noise import content_noise, content_seeds
from diffusion_guidance.detection.rigid import Detector, gaussian_blur, minder_similarity, rigid_similarity
from diffusion_guidance.detection.threshold import Calibration
from diffusion_guidance.networks.extractors import IMAGENET, Transform

from ..nosync import NoSynchronisation


def random_images(count: int = 4, size: tuple[int, int] = (224, 224)) -> torch.Tensor:
    return torch.randint(256, (count, 3, *size), generator=torch.Generator().manual_seed(0)) / 255


def transformer(size: int = 224) -> torch.nn.Module:
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=size, depth=2).eval()
    with torch.no_grad():
        model.patch_embed.proj.weight *= 10  # else the class token hardly sees the image
    return model


def published(model: torch.nn.Module, images: torch.Tensor, noises: list[torch.Tensor], strength: float = 0.05):
    """As in the authors' notebook: normalise, add noise, two passes, cosine; averaged if there are more draws."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
    x = (images - mean) / std
    sims = []
    for noise in noises:
        with torch.no_grad():
            clean, noisy = model(x), model(x + noise * strength)
        sims.append(torch.nn.functional.cosine_similarity(clean, noisy, dim=-1))
    return torch.stack(sims).mean(0)


@pytest.mark.parametrize("draws", [1, 3])
def test_equals_the_published_computation(draws):
    model, images = transformer(), (random_images(2) - 0.5) / 8 + 0.5  # of little contrast, so that the noise matters
    encoder = Encoder("vit", model, Transform(224, *IMAGENET, "bilinear"))
    detector = Detector(encoder, draws=draws)
    noise = content_noise(content_seeds(images), (draws, 3, 224, 224))
    expected = published(model, images, list(noise.unbind(1)))
    torch.testing.assert_close(detector.score(images), expected, rtol=0, atol=1e-6)
    assert expected.max() < 1 - 1e-4  # a hundred times the tolerance
    if draws == 1:
        assert Detector.published(encoder).identity == detector.identity
    assert detector.identity["noise"] == 0.05


def test_closed_form_of_a_linear_encoder():
    # f is the identity on three numbers, so the cosine is that of x and x + noise * delta.
    x = torch.tensor([[1.0, 0, 0], [0, 2, 0]]).reshape(2, 3, 1, 1)
    delta = torch.zeros(2, 2, 3, 1, 1)
    delta[0, 0, 1] = 1  # orthogonal: 1 / sqrt(1 + noise^2)
    delta[0, 1, 0] = 1  # parallel: 1
    delta[1, :, 1] = -4  # beyond the origin: -1
    found = rigid_similarity(lambda v: v.flatten(1), x, delta, 0.75)
    torch.testing.assert_close(found, torch.tensor([(1 / math.sqrt(1 + 0.75**2) + 1) / 2, -1]))
    torch.testing.assert_close(rigid_similarity(lambda v: v.flatten(1), x, delta, 0.0), torch.ones(2))
    with pytest.raises(ValueError, match=r"expected noise \(B, draws, C, H, W\)"):
        rigid_similarity(lambda v: v.flatten(1), x, delta[:, 0])


def test_clean_features_are_computed_once():
    seen = []

    def features(images):
        seen.append(len(images))
        return images.flatten(1)

    rigid_similarity(features, torch.rand(3, 3, 4, 4), torch.randn(3, 5, 3, 4, 4))
    assert seen == [3 * 6]


def test_blur_equals_scipy():
    images = random_images(2, (24, 20))
    for sigma in (0.55, 1.0):
        radius = max(1, round(3 * sigma))
        expected = images.double().numpy()
        for axis in (2, 3):
            expected = ndimage.gaussian_filter1d(expected, sigma, axis, mode="mirror", radius=radius)
        torch.testing.assert_close(gaussian_blur(images, sigma).double(), torch.from_numpy(expected), rtol=0, atol=1e-5)


def test_minder_is_the_smaller_similarity():
    encoder = random_encoder("vit_tiny_patch16_224", size=32, depth=2, patch_size=8)
    images = encoder.transform(torch.cat([random_images(3, (32, 32)), torch.full((1, 3, 32, 32), 0.5)]))
    delta = torch.randn(4, 2, *images.shape[1:], generator=torch.Generator().manual_seed(0))
    noisy = rigid_similarity(encoder.features, images, delta, 0.2)
    clean, blurred = (encoder.features(part) for part in (images, gaussian_blur(images, 0.8)))
    blur = torch.nn.functional.cosine_similarity(clean, blurred)
    assert (blur[:3] < noisy[:3]).all()
    assert blur[3] > noisy[3]  # a plain image does not change when it is blurred
    found = minder_similarity(encoder.features, images, delta, 0.2, 0.8)
    torch.testing.assert_close(found, torch.minimum(noisy, blur), rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["rigid", "minder"])
def test_a_score_belongs_to_the_image_alone(method):
    images = random_images(64, (40, 30))
    encoder = random_encoder("vit_tiny_patch16_224", size=32, depth=2, patch_size=8)
    detector = Detector(encoder, noise=0.3, draws=2, method=method)
    scores = detector.score(images)
    assert scores.shape == (64,)
    assert scores.dtype == torch.float32
    # Kernels sum in an order that can depend on the batch's size: hence a tolerance, far below the scores' spread.
    alone = torch.cat([detector.score(image[None]) for image in images])
    torch.testing.assert_close(alone, scores, rtol=0, atol=1e-6)
    assert scores.std() > 1e-3
    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(detector.score(images[order]), scores[order], rtol=0, atol=1e-6)
    small = Detector(encoder, noise=0.3, draws=2, method=method, batch=7)
    torch.testing.assert_close(small.score(images), scores, rtol=0, atol=1e-6)
    before = torch.get_rng_state()
    detector.score(images[:1])
    assert torch.equal(torch.get_rng_state(), before)


def test_more_draws_vary_less():
    encoder = random_encoder("vit_tiny_patch16_224", size=32, depth=2, patch_size=8)
    # The same image except for its last bit: other noise, nearly the same mean.
    images = random_images(1, (32, 32)).expand(40, -1, -1, -1).clone()
    images[torch.arange(40), 0, 0, torch.arange(40) % 32] = (torch.arange(40) / 255).float()
    spread = [Detector(encoder, noise=0.3, draws=draws).score(images).std().item() for draws in (1, 16)]
    assert spread[1] < spread[0] / 2


def test_calibration_is_for_one_detector_only(tmp_path):
    encoder = random_encoder("vit_tiny_patch16_224", size=32, depth=1, patch_size=8)
    images = random_images(80, (32, 32))
    detector = Detector(encoder).calibrated(images.split(30), 0.1)
    assert detector.calibration.samples == 80
    assert detector.calibration.identity == detector.identity
    scores = detector.score(images)
    assert (scores < detector.calibration.threshold).sum() == 8
    assert set(detector.verdict(scores)) == {"real", "unsure", "generated"}
    loaded = Calibration.load(detector.calibration.save(tmp_path / "calibration.json"))
    assert Detector(encoder).with_calibration(loaded).verdict(scores) == detector.verdict(scores)
    other = random_encoder("vit_tiny_patch16_224", seed=1, size=32, depth=1, patch_size=8)
    for wrong, name in (
        (Detector(encoder, noise=0.1), "noise"),
        (Detector(encoder, draws=2), "draws"),
        (Detector(encoder, method="minder"), "method"),
        (Detector(other), "encoder, weights"),
    ):
        with pytest.raises(ValueError, match=f"detector with another {name}; calibrate this one"):
            wrong.with_calibration(loaded)
    with pytest.raises(ValueError, match="no threshold yet"):
        Detector(encoder).verdict(scores)


def test_errors():
    encoder = Encoder("flat", lambda images: images.flatten(1))
    for arguments, message in (
        ({"method": "x"}, "method must be one of rigid, minder"),
        ({"noise": 0.0}, "noise must be above 0"),
        ({"draws": 0}, "draws at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            Detector(encoder, **arguments)
    for wrong in (torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\)"):
            Detector(encoder).score(wrong)


def test_scoring_waits_for_no_device():
    encoder = random_encoder("vit_tiny_patch16_224", size=32, depth=1, patch_size=8)
    images = random_images(3, (40, 30))
    with NoSynchronisation():
        Detector(encoder, draws=2).score(images)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_encoders(dtype):
    encoder = random_encoder("vit_tiny_patch16_224", size=32, depth=2, patch_size=8)
    images = random_images(8, (32, 32))
    full = Detector(encoder, noise=0.5).score(images)
    half = Detector(encoder.to(dtype=dtype), noise=0.5).score(images)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0, atol=0.02)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_scores_on_a_device(dtype):
    encoder, images = random_encoder("vit_tiny_patch16_224", size=32, depth=2, patch_size=8), random_images(8, (40, 30))
    expected = Detector(encoder, noise=0.3).score(images)
    detector = Detector(encoder.to("cuda", dtype), noise=0.3)
    atol = 1e-4 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(detector.score(images.cuda()).cpu(), expected, rtol=0, atol=atol)
