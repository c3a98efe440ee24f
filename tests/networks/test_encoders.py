"""Encoders of every kind from local files or random weights: transforms, features, identity, errors."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from diffusion_guidance.networks.encoders import Encoder, load_encoder, random_encoder
from diffusion_guidance.networks.extractors import CLIP, IMAGENET
from diffusion_guidance.networks.libraries import Parts
from diffusion_guidance.networks.patch_encoder import PatchEncoder
from diffusion_guidance.networks.weights import weights_sha256


def random_images(size: int = 40) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def features(encoder: Encoder) -> torch.Tensor:
    with torch.no_grad():
        return encoder.features(encoder.transform(random_images()))


def test_timm_with_local_weights(tmp_path):
    name = "vit_tiny_patch16_224.augreg_in21k"
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0, img_size=32).eval()
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    encoder = load_encoder(f"timm:{name}:{tmp_path / 'vit.safetensors'}", size=32)
    assert encoder.identity == {
        "encoder": f"timm/{name}",
        "weights": weights_sha256(model),
        "preprocessing": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3, "mode": "bilinear"},
        "dtype": "float32",
    }
    with torch.no_grad():
        torch.testing.assert_close(features(encoder), model(encoder.transform(random_images())))
    assert encoder.size == 32


def test_torchvision_with_local_weights(tmp_path):
    torch.manual_seed(0)
    model = models.resnet18().eval()
    save_file(model.state_dict(), tmp_path / "resnet.safetensors")
    encoder = load_encoder(f"torchvision:resnet18:{tmp_path / 'resnet.safetensors'}", size=64)
    assert (encoder.transform.mean, encoder.transform.std) == IMAGENET
    with torch.no_grad():
        model.fc = torch.nn.Identity()
        torch.testing.assert_close(features(encoder), model(encoder.transform(random_images())))
    assert features(encoder).shape == (2, 512)


def test_open_clip_with_local_weights(tmp_path, monkeypatch):
    import open_clip
    from open_clip.factory import _MODEL_CONFIGS

    tiny = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
    }
    monkeypatch.setitem(_MODEL_CONFIGS, "tiny", tiny)
    model = open_clip.create_model("tiny").eval()
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    encoder = load_encoder(f"open_clip:tiny:{tmp_path / 'clip.safetensors'}")
    assert (encoder.size, encoder.transform.mean) == (32, CLIP[0])
    assert encoder.identity["weights"] == weights_sha256(model)
    with torch.no_grad():
        torch.testing.assert_close(features(encoder), model.encode_image(encoder.transform(random_images())))


def test_a_folder_of_ours(tmp_path):
    torch.manual_seed(0)
    model = PatchEncoder(filters=8).eval()
    model.centre.fill_(0.25)
    model.save_pretrained(tmp_path / "net")
    encoder = load_encoder(f"local:{tmp_path / 'net'}")
    with torch.no_grad():
        torch.testing.assert_close(features(encoder), model(encoder.transform(random_images())))
    assert features(encoder).shape == (2, 2 * 8 * 15 * 15)
    assert encoder.name == "local/net"
    # The image's own batch does not matter.
    inputs = encoder.transform(random_images())
    with torch.no_grad():
        torch.testing.assert_close(encoder.features(inputs[:1]), encoder.features(inputs)[:1], rtol=1e-4, atol=1e-6)


def test_random_weights_leave_the_global_generator_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = load_encoder("random:vit_tiny_patch16_224:3", size=32)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.identity == random_encoder("vit_tiny_patch16_224", seed=3, size=32).identity
    other = random_encoder("vit_tiny_patch16_224", seed=4, size=32).identity
    assert first.identity["weights"] != other["weights"]


def test_any_callable():
    encoder = load_encoder(lambda images: images.mean((2, 3)), size=8)
    torch.testing.assert_close(features(encoder), random_images().mean((2, 3)), rtol=0, atol=0.02)
    assert encoder.identity["weights"] is None
    assert load_encoder(encoder) == encoder
    with pytest.raises(ValueError, match=r"returned \(2, 3, 40, 40\) for 2 images, not features \(B, D\)"):
        features(load_encoder(lambda images: images))


def test_the_digest_sees_names_types_and_values():
    def digest(**tensors):
        module = torch.nn.Module()
        for name, value in tensors.items():
            module.register_buffer(name, value)
        return weights_sha256(module)

    one = digest(a=torch.ones(4))
    assert one == digest(a=torch.ones(8)[::2])
    others = [digest(b=torch.ones(4)), digest(a=torch.ones(2, 2)), digest(a=torch.ones(4).double())]
    others += [digest(a=torch.tensor([1.0, 1, 1, 2])), digest(a=torch.ones(4).view(torch.int32))]
    assert len({one, *others}) == 6


def test_a_network_that_prepares_images_itself_is_refused(monkeypatch):
    parts = Parts("inception-v3", torch.nn.Identity(), lambda images: images * 255, torch.nn.Identity())
    monkeypatch.setattr("diffusion_guidance.networks.encoders.load", lambda *_, **__: parts)
    with pytest.raises(ValueError, match="inception-v3 prepares images itself"):
        load_encoder("inception")


def test_errors_say_what_to_do(tmp_path):
    for spec in ("vgg", "timm:", "x:y"):
        with pytest.raises(
            ValueError, match=r"an encoder is written LIBRARY:NAME\[:WEIGHTS\] with timm, open_clip, torchvision"
        ):
            load_encoder(spec)
    with pytest.raises(ValueError, match="makes one"):
        load_encoder(f"local:{tmp_path}")
    with pytest.raises(ValueError, match="torchvision knows no model 'x'"):
        load_encoder("torchvision:x")
    for kind in ("timm:vit_tiny_patch16_224", "torchvision:resnet18"):
        with pytest.raises(ValueError, match="there are no weights at"):
            load_encoder(f"{kind}:{tmp_path / 'absent.safetensors'}")
