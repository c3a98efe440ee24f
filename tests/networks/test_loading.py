"""One grammar, and the same network whichever way it is called."""

import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from diffusion_guidance.networks.classifiers import load_classifier
from diffusion_guidance.networks.encoders import load_encoder
from diffusion_guidance.networks.extractors import load_extractor
from diffusion_guidance.networks.loading import LIBRARIES, check_arguments, parse


def images(size: int = 64) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("timm:vit", ("timm", "vit", "")),
        ("timm:vit:folder/file.safetensors", ("timm", "vit", "folder/file.safetensors")),
        ("open_clip:ViT-B-32:C:/file.safetensors", ("open_clip", "ViT-B-32", "C:/file.safetensors")),
        ("local:C:/folder", ("local", "C:/folder", "")),
        ("inception", ("torch_fidelity", "inception-v3", "")),
        ("dinov2:file.safetensors", ("timm", "vit_large_patch14_dinov2.lvd142m", "file.safetensors")),
        ("clip", ("open_clip", "ViT-L-14-336", "openai")),
        ("clip:file.safetensors", ("open_clip", "ViT-L-14-336", "file.safetensors")),
    ],
)
def test_a_string_is_read(spec, expected):
    assert parse(spec, "features", "extractor") == expected


@pytest.mark.parametrize("head", LIBRARIES)
@pytest.mark.parametrize("spec", ["", "timm", "timm:", ":vit", "os:system", "timm/vit:x"])
def test_another_form_is_refused(spec, head):
    with pytest.raises(ValueError, match=r"a network is written LIBRARY:NAME\[:WEIGHTS\] with "):
        parse(spec, head, "network")


@pytest.mark.parametrize("spec", ["pretrained:transformers.ViTModel:folder", "inception"])
def test_a_library_without_what_is_asked_for_is_refused(spec):
    head = "features" if spec.startswith("pretrained") else "logits"
    with pytest.raises(ValueError, match=r"is written LIBRARY:NAME"):
        parse(spec, head, "network")


def test_one_network_in_three_ways(tmp_path):
    """The features of a ResNet are what its last layer takes: so the encoder's, times that layer, are the logits."""
    torch.manual_seed(0)
    model = models.resnet18().eval()
    save_file(model.state_dict(), tmp_path / "resnet.safetensors")
    spec = f"torchvision:resnet18:{tmp_path / 'resnet.safetensors'}"
    encoder, extractor = load_encoder(spec, size=64), load_extractor(spec, size=64)
    classifier = load_classifier(spec, size=64)
    with torch.no_grad():
        features = encoder.features(encoder.transform(images()))
        torch.testing.assert_close(extractor(images())["features"], features)
        torch.testing.assert_close(classifier(2 * images() - 1), model.fc(features), atol=1e-4, rtol=1e-4)
    assert extractor.identity["weights"] == encoder.identity["weights"]
    assert extractor.identity["resize"] == "64 bicubic" and encoder.identity["preprocessing"]["mode"] == "bilinear"


def test_no_network_asks_for_gradients_of_its_weights_or_is_in_training_mode(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=32)
    save_file(model.state_dict(), tmp_path / "vit.safetensors")
    spec = f"timm:vit_tiny_patch16_224:{tmp_path / 'vit.safetensors'}"
    for network in (load_encoder(spec, size=32), load_extractor(spec, size=32)):
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert not any(part.training for part in network.modules())
        assert len(list(network.parameters())) == len(list(model.parameters()))


def test_an_encoder_moves_with_its_network():
    encoder = load_encoder("random:vit_tiny_patch16_224", size=32)
    before = encoder.identity
    half = encoder.to(dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16 and {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert half.features(half.transform(images())).dtype == torch.float32
    assert half.identity["dtype"] == "bfloat16" and before["dtype"] == "float32"
    assert half.identity["weights"] != before["weights"]


def test_arguments_are_a_closed_list():
    check_arguments("timm", {"num_classes": 3})
    for library in ("open_clip", "pretrained", "torchvision"):
        with pytest.raises(ValueError, match=f"checkpoint_path: not an argument that a {library} classifier takes"):
            check_arguments(library, {"checkpoint_path": "weights.pth"})
    with pytest.raises(ValueError, match="num_classes of a timm classifier is a number, got True"):
        check_arguments("timm", {"num_classes": True})
