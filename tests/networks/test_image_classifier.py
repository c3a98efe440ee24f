"""Any classifier behind guidance's input: what the network gets, and the gradient that comes back."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torchvision.transforms import functional as vision

from diffusion_guidance.networks.extractors import CLIP, IMAGENET
from diffusion_guidance.networks.image_classifier import ImageClassifier, Normalise
from diffusion_guidance.networks.weights import weights_sha256

from ..classifiers import LIBRARIES, load_tiny
from ..nosync import NoSynchronisation


class Means(nn.Module):
    """Logits that are the mean of each channel, which shows the input."""

    def forward(self, images):
        return images.mean((2, 3))


def random_images(size: int = 12, channels: int = 3) -> torch.Tensor:
    return 2 * torch.rand(2, channels, size, size, generator=torch.Generator().manual_seed(0)) - 1


@pytest.mark.parametrize(("name", "statistics"), [("imagenet", IMAGENET), ("clip", CLIP)])
@pytest.mark.parametrize("size", [None, 12, 8, 20])
def test_input_equals_torchvision(name, statistics, size):
    given = ImageClassifier(Means().eval(), name, size).module_input(random_images())
    expected = (random_images().double() + 1) / 2
    if size is not None:
        expected = vision.resize(expected, [size, size], vision.InterpolationMode.BICUBIC, antialias=True)
    torch.testing.assert_close(given.double(), vision.normalize(expected, *statistics), atol=1e-5, rtol=0)


def test_the_authors_transform_leaves_images_alone_and_a_callable_does_what_it_does():
    assert torch.equal(ImageClassifier(Means().eval()).module_input(random_images()), random_images())
    squared = ImageClassifier(Means().eval(), lambda each: each**2)
    torch.testing.assert_close(squared(random_images()), (random_images() ** 2).mean((2, 3)))


def test_a_grey_image_is_repeated_where_the_network_wants_three_channels():
    grey = random_images(channels=1)
    assert ImageClassifier(Means().eval(), "imagenet").module_input(grey).shape == (2, 3, 12, 12)
    assert ImageClassifier(Means().eval()).module_input(grey).shape == (2, 1, 12, 12)
    assert torch.equal(ImageClassifier(Means().eval(), channels=3).module_input(grey), grey.repeat(1, 3, 1, 1))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_logits_are_float32_whatever_comes_in_also_within_autocast(dtype):
    classifier = ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(432, 4)).eval())
    with torch.autocast("cpu", torch.bfloat16):
        logits = classifier(random_images().to(dtype))
    assert logits.dtype == torch.float32
    assert torch.equal(logits, classifier(random_images().to(dtype)))


def test_a_network_in_half_precision_gets_its_own_dtype():
    classifier = ImageClassifier(nn.Sequential(nn.Flatten(), nn.Linear(432, 4)).eval().bfloat16())
    assert classifier.module_input(random_images()).dtype == torch.bfloat16
    assert classifier(random_images()).dtype == torch.float32


def test_a_gradient_passes_where_an_estimate_leaves_the_range():
    x = (3 * random_images()).requires_grad_(True)
    ImageClassifier(Means().eval(), "imagenet", 8)(x).sum().backward()
    assert (x.grad != 0).all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_gradient_through_networks_of_each_library_equals_a_finite_difference(library, tmp_path):
    classifier = load_tiny(library, tmp_path).double()
    x, labels = random_images(24).double().requires_grad_(True), torch.tensor([1, 2])

    def log_prob(x):
        return torch.log_softmax(classifier(x), 1).gather(1, labels[:, None]).sum()

    (gradient,) = torch.autograd.grad(log_prob(x), x)
    assert gradient.isfinite().all()
    for seed in range(3):
        along = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            difference = (log_prob(x + 1e-6 * along) - log_prob(x - 1e-6 * along)) / 2e-6
        assert difference.abs() > 1e-6  # random weights still see something
        torch.testing.assert_close((gradient * along).sum(), difference, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("transform", ["authors", "imagenet", "clip"])
def test_nothing_waits_for_the_device(transform):
    classifier = ImageClassifier(Means().eval(), transform, 8)
    with NoSynchronisation():
        classifier(random_images())


def test_transformers_outputs_have_their_logits_taken():
    class Module(nn.Module):
        def forward(self, images):
            return SimpleNamespace(logits=images.mean((2, 3)))

    torch.testing.assert_close(ImageClassifier(Module().eval())(random_images()), random_images().mean((2, 3)))


def test_identity_is_json_and_follows_the_weights():
    module = nn.Sequential(nn.Flatten(), nn.Linear(432, 4)).eval()
    first = ImageClassifier(module, Normalise((0.5,), (0.25,)), 12, name="mine").identity()
    assert json.loads(json.dumps(first)) == first
    assert first["name"] == "mine" and first["transform"] == {"mean": [0.5], "std": [0.25]} and first["size"] == 12
    assert len(first["weights_sha256"]) == 64
    with torch.no_grad():
        module[1].bias[0] += 1e-6
    assert ImageClassifier(module).identity()["weights_sha256"] != first["weights_sha256"]
    assert weights_sha256(module.bfloat16()) != weights_sha256(module.float())


def test_what_cannot_work_is_refused():
    with pytest.raises(ValueError, match="authors, imagenet, clip or a callable, got 'other'"):
        ImageClassifier(Means().eval(), "other")
    with pytest.raises(ValueError, match=r"in training mode \(2\); call eval\(\)"):
        ImageClassifier(nn.Sequential(nn.Flatten(), nn.Dropout()).eval().append(nn.Dropout()))
    classifier = ImageClassifier(nn.Identity().eval())
    with pytest.raises(ValueError, match=r"reads images \(B, C, H, W\)"):
        classifier(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"Identity returned \(2, 3, 12, 12\) for 2 images, not logits \(B, D\)"):
        classifier(random_images())


@pytest.mark.gpu
def test_on_cuda_equals_cpu():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    classifier = ImageClassifier(Means().eval(), "imagenet", 8)
    expected = classifier(random_images())
    torch.testing.assert_close(classifier.cuda()(random_images().cuda()).cpu(), expected, atol=1e-5, rtol=1e-5)
