"""Extractors of real architectures with random weights from local files: transforms, shapes, errors."""

import io

import pytest
import torch
from safetensors.torch import save_file
from torchvision.transforms import functional as vision

from diffusion_guidance.networks.extractors import (
    CLIP,
    IMAGENET,
    Extractor,
    Transform,
    load_extractor,
)


def random_images(size: int = 40) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("size", "to"), [(40, 28), (20, 28), (28, 28)])
def test_transform_equals_torchvision(size, to):
    expected = vision.resize(random_images(size), [to, to], vision.InterpolationMode.BICUBIC, antialias=True).clamp(
        0, 1
    )
    torch.testing.assert_close(Transform(to, *IMAGENET)(random_images(size)), vision.normalize(expected, *IMAGENET))
    torch.testing.assert_close(Transform()(random_images()), random_images())


def test_any_callable():
    extractor = Extractor("mean", lambda images: images.mean((2, 3)))
    features = extractor(random_images().half())
    assert list(features) == ["features"]
    assert features["features"].dtype == torch.float32
    torch.testing.assert_close(features["features"], random_images().mean((2, 3)), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\)"):
        extractor(torch.zeros(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"returned \(2, 3, 40, 40\)"):
        Extractor("none", lambda images: images)(random_images())


def test_inception_equals_torch_fidelity(tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, state):
            assert state == {}

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    torch.manual_seed(0)
    theirs = Untrained("x", ["2048", "logits_unbiased"], empty)
    save_file(theirs.state_dict(), tmp_path / "inception.safetensors")
    images = (random_images(32) * 255).round().to(torch.uint8)
    ours = load_extractor(f"inception:{tmp_path / 'inception.safetensors'}")(images / 255)
    features, logits = theirs(images)
    torch.testing.assert_close(ours["features"], features, rtol=0, atol=0)
    torch.testing.assert_close(ours["logits"], logits, rtol=0, atol=0)
    assert (features.shape, logits.shape) == ((2, 2048), (2, 1008))
    assert features.std() > 0


def test_dinov2_reads_local_weights(tmp_path):
    import timm

    name = "vit_small_patch14_dinov2.lvd142m"
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, img_size=28, depth=2).eval()
    save_file(model.state_dict(), tmp_path / "dino.safetensors")
    extractor = load_extractor(f"timm:{name}:{tmp_path / 'dino.safetensors'}", size=28, depth=2)
    assert extractor.name.startswith(f"timm/{name} (")
    with torch.inference_mode():
        expected = model(Transform(28, *IMAGENET)(random_images()))
    torch.testing.assert_close(extractor(random_images())["features"], expected)


def test_clip_reads_local_weights_and_embeds_texts(tmp_path, monkeypatch):
    import open_clip
    from open_clip.factory import _MODEL_CONFIGS

    tiny = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    monkeypatch.setitem(_MODEL_CONFIGS, "tiny", tiny)
    torch.manual_seed(0)
    model = open_clip.create_model("tiny").eval()
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    extractor = load_extractor(f"open_clip:tiny:{tmp_path / 'clip.safetensors'}")
    with torch.inference_mode():
        expected = model.encode_image(Transform(32, *CLIP)(random_images()))
        texts = model.encode_text(open_clip.get_tokenizer("ViT-B-32")(["a star", "a cross"]))
    torch.testing.assert_close(extractor(random_images())["features"], expected)
    torch.testing.assert_close(extractor.embed_texts(["a star", "a cross"]), texts)


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(ValueError, match="or as inception, dinov2, clip, lite0; got 'vgg'"):
        load_extractor("vgg")
    for name in ("inception", "dinov2", "clip"):
        with pytest.raises(ValueError, match="there are no weights at"):
            load_extractor(f"{name}:{tmp_path / 'absent.safetensors'}")
    pickle = tmp_path / "weights.pth"
    pickle.write_bytes(b"\x80\x04N.")
    for name in ("inception", "clip"):
        with pytest.raises(ValueError, match="must be a safetensors file"):
            load_extractor(f"{name}:{pickle}")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x80\x04N.")
    with pytest.raises(ValueError, match="cannot read weights"):
        load_extractor(f"inception:{broken}")
    with pytest.raises(ValueError, match="knows no model 'x'"):
        load_extractor("open_clip:x:openai")
