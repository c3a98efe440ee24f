"""Small classifiers of the libraries that users have, with random weights in local files, and the strings for them."""

import json
from functools import lru_cache
from pathlib import Path

import open_clip
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from diffusion_guidance.networks.classifiers import load_classifier
from diffusion_guidance.networks.image_classifier import ImageClassifier


LIBRARIES = ("torchvision", "timm", "open_clip")
CLASSES = ["a cat", "a dog", "a red star"]
TEMPLATES = ["{}", "a photo of {}"]


@lru_cache
def clip_config(folder: Path) -> str:
    """Makes a tiny CLIP known to open_clip; its name."""
    tower = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    path = folder / "tiny-clip.json"
    path.write_text(json.dumps({"embed_dim": 16, "vision_cfg": tower, "text_cfg": text}))
    open_clip.add_model_config(path)
    return path.stem


def tiny_module(library: str, folder: Path) -> torch.nn.Module:
    """A network of the library itself, in eval mode, always with the same random weights."""
    torch.manual_seed(0)
    if library == "torchvision":
        module = models.resnet18(num_classes=5)
        for part in module.modules():  # statistics as after training, not those of a new network
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(std=0.1)
                part.running_var.uniform_(0.5, 2)
    elif library == "timm":
        module = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5)
        torch.nn.init.normal_(module.head.weight, std=0.2)
    else:
        module = open_clip.create_model(clip_config(folder))
    return module.eval()


def tiny_spec(library: str, folder: Path) -> dict:
    """Arguments of `load_classifier` for the network of `tiny_module`, whose weights are written to `folder`."""
    path = folder / f"{library}.safetensors"
    save_file({name: value.contiguous() for name, value in tiny_module(library, folder).state_dict().items()}, path)
    return {
        "torchvision": {"spec": f"torchvision:resnet18:{path}", "num_classes": 5, "size": 32},
        "timm": {"spec": f"timm:vit_tiny_patch16_224:{path}", "num_classes": 5, "img_size": 32},
        "open_clip": {"spec": f"open_clip:tiny-clip:{path}", "classes": CLASSES, "templates": TEMPLATES},
    }[library]


def load_tiny(library: str, folder: Path) -> ImageClassifier:
    return load_classifier(**tiny_spec(library, folder))
