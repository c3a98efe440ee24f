"""Classifiers by name: random weights from local files, no network."""

import json
import sys
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision import models
from torchvision.transforms import functional as vision
from transformers import ViTConfig, ViTForImageClassification

from diffusion_guidance import ClassifierGuidance, Reading, from_config, to_config
from diffusion_guidance.networks.classifiers import load_classifier
from diffusion_guidance.networks.extractors import CLIP, IMAGENET

from ..classifiers import CLASSES, LIBRARIES, TEMPLATES, load_tiny, tiny_module, tiny_spec


FOLDER = Path(__file__).parents[2] / "assets" / "digits-classifier"
DIGITS = f"pretrained:diffusion_guidance.worlds.DigitsClassifier:{FOLDER}"


def random_images() -> torch.Tensor:
    return 2 * torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)) - 1


def prepared(mean, std) -> torch.Tensor:
    resized = vision.resize((random_images() + 1) / 2, [32, 32], vision.InterpolationMode.BICUBIC, antialias=True)
    return vision.normalize(resized, mean, std)


@torch.no_grad()
def expected_logits(library, folder) -> torch.Tensor:
    """By the library's own means."""
    module = tiny_module(library, folder)
    if library == "torchvision":
        return module(prepared(*IMAGENET))
    if library == "timm":
        return module(prepared((0.5,) * 3, (0.5,) * 3))  # as timm says of this network
    weights = open_clip.build_zero_shot_classifier(module, open_clip.get_tokenizer("tiny-clip"), CLASSES, TEMPLATES)
    return module.logit_scale.exp() * module.encode_image(prepared(*CLIP), normalize=True) @ weights


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_classifier_from_a_local_file_equals_the_library(library, tmp_path):
    classifier = load_tiny(library, tmp_path)
    torch.testing.assert_close(classifier(random_images()), expected_logits(library, tmp_path), atol=1e-5, rtol=1e-5)
    assert not any(part.training for part in classifier.modules())
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    assert json.loads(json.dumps(classifier.identity()))["name"].startswith(f"{library}:")


def test_torchvisions_own_weights_are_read_without_unpickling_everything(monkeypatch):
    asked = {}

    def download(self, **arguments):
        asked.update(arguments)
        torch.manual_seed(0)
        return models.resnet18().state_dict()

    monkeypatch.setattr(models.ResNet18_Weights, "get_state_dict", download)
    classifier = load_classifier("torchvision:resnet18:IMAGENET1K_V1")
    assert asked["weights_only"] is True and asked["check_hash"] is True
    assert classifier.size == 224 and classifier(random_images()[:1]).shape == (1, 1000)
    assert load_classifier("torchvision:resnet18", transform="authors", size=64).identity()["size"] == 64


def test_a_transformers_classifier_by_its_class(tmp_path):
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    module = ViTForImageClassification(ViTConfig(**small, image_size=32, patch_size=16, num_labels=4)).eval()
    module.save_pretrained(tmp_path)
    classifier = load_classifier(f"pretrained:transformers.ViTForImageClassification:{tmp_path}", size=32)
    expected = module(prepared((0.5,) * 3, (0.5,) * 3)).logits  # (x - 0.5) / 0.5 of [0, 1] is [-1, 1] again
    torch.testing.assert_close(classifier(random_images()), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("library", LIBRARIES)
def test_it_is_saved_and_loaded_with_the_guidance(library, tmp_path):
    spec = json.loads(json.dumps(tiny_spec(library, tmp_path)))
    guidance = ClassifierGuidance(spec, reading=Reading(tau_joint=0.8, tau_marginal=0.4, softplus=0))
    (loaded,) = from_config(json.loads(json.dumps(to_config(guidance))))
    assert (loaded.reading.tau_joint, loaded.reading.tau_marginal) == (0.8, 0.4)
    assert torch.equal(loaded.classifier(random_images()), load_classifier(**spec)(random_images()))


def test_the_digits_classifier_has_the_name_of_its_class():
    images = 2 * torch.rand(3, 1, 8, 8) - 1
    classifier = load_classifier(DIGITS)
    assert torch.equal(classifier(images), classifier.module(images))
    assert not hasattr(sys.modules["diffusion_guidance.networks.classifiers"], "DigitsClassifier")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": "resnet50"}, r"LIBRARY:NAME\[:WEIGHTS\] with torchvision, timm, open_clip, pretrained"),
        ({"spec": "torchvision:"}, "LIBRARY:NAME"),
        ({"spec": "torchvision:resnet7"}, "cannot load torchvision:resnet7"),
        ({"spec": "torchvision:resnet18:no.safetensors"}, "there are no weights at no.safetensors"),
        ({"spec": "timm:no_such_model:x.safetensors"}, "cannot load timm:no_such_model"),
        ({"spec": "open_clip:ViT-B-32", "classes": CLASSES}, "name one of its tags, or a safetensors file"),
        ({"spec": "torchvision:resnet18", "classes": CLASSES}, "classes are for open_clip"),
        ({"spec": "pretrained:torch.nn.Linear:x"}, "not a class of networks in transformers or diffusers"),
        ({"spec": "pretrained:os.system:x"}, "not a class of networks in transformers or diffusers"),
        ({"spec": "pretrained:transformers.pipeline:x"}, "not a class of networks in transformers or diffusers"),
        ({"spec": "pretrained:transformers.utils.hub:x"}, "not a class of networks in transformers or diffusers"),
        ({"spec": "pretrained:Linear:x"}, "not a class of networks in transformers or diffusers"),
    ],
)
def test_errors_say_what_is_wrong(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_classifier(**arguments)


def test_pickles_and_weights_of_another_network_are_refused(tmp_path):
    torch.save(models.resnet18(num_classes=5).state_dict(), tmp_path / "weights.pth")
    for library in ("torchvision:resnet18", "timm:resnet18"):
        with pytest.raises(ValueError, match="must be a safetensors file"):
            load_classifier(f"{library}:{tmp_path / 'weights.pth'}", num_classes=5)
    spec = tiny_spec("torchvision", tmp_path)
    with pytest.raises(ValueError, match="size mismatch"):
        load_classifier(spec["spec"], num_classes=6)
    path = tmp_path / "torchvision.safetensors"
    save_file({name: value for name, value in load_file(path).items() if name != "conv1.weight"}, path)
    with pytest.raises(ValueError, match="Missing key"):
        load_classifier(**spec)


def test_open_clip_needs_classes(tmp_path):
    spec = tiny_spec("open_clip", tmp_path) | {"classes": []}
    with pytest.raises(ValueError, match="two or more classes"):
        load_classifier(**spec)


@pytest.mark.parametrize(
    "key",
    ["pretrained_image_path", "pretrained_text_path", "weights_only", "load_weights", "cache_dir", "pretrained_hf"],
)
def test_a_mapping_cannot_make_a_library_unpickle(key, tmp_path):
    """A guidance.json next to a checkpoint named a pickle in this way, and loading the checkpoint ran it."""
    canary = tmp_path / "ran"

    class Hostile:
        def __reduce__(self):
            return canary.touch, ()

    torch.save({"state_dict": Hostile()}, tmp_path / "tower.pt")
    hostile = tiny_spec("open_clip", tmp_path) | {"load_weights": False, key: str(tmp_path / "tower.pt")}
    with pytest.raises(ValueError, match=f"{key}.*not an argument"):
        from_config([{"callback": "ClassifierGuidance", "classifier": hostile}])
    assert not canary.exists()


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_arguments_of_a_constructor_are_numbers(library, tmp_path):
    spec = tiny_spec(library, tmp_path)
    with pytest.raises(ValueError, match=f"num_classes of a {library} classifier is a number"):
        load_classifier(**spec | {"num_classes": "5"})
    with pytest.raises(ValueError, match="checkpoint_path: not an argument"):
        load_classifier(**spec, checkpoint_path="weights.pth")


def test_no_module_is_imported_because_a_string_names_it(tmp_path, monkeypatch):
    """With the working directory on the path, a checkpoint folder's own mod.py was run."""
    (tmp_path / "hostile_module.py").write_text("import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("hostile_module.Network", "hostile_module", "transformers.hostile_module.Network"):
        with pytest.raises(ValueError, match="not a class of networks"):
            load_classifier(f"pretrained:{name}:{tmp_path}")
    assert not (tmp_path / "ran").exists() and "hostile_module" not in sys.modules
