"""What each library gives for a name: the module, its preprocessing, and how to embed texts.

Every function takes the name, the weights ("" for the library's own) and the whole specification for its errors.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .efficientnet_lite import NAMES, PACKAGE, efficientnet_lite
from .known_classes import known_class
from .preprocessing import CLIP, IMAGENET, Transform, unchanged
from .weights import check_weights, read_weights, with_weights
from .zero_shot import ZeroShot, class_embeddings


if TYPE_CHECKING:
    from open_clip import CLIP as Clip
    from timm.models import EfficientNet


@dataclass(frozen=True)
class Parts:
    """A network before it is called in one of the three ways.

    Attributes:
        name: for reports.
        module: from prepared images to features or logits.
        transform: of images in [0, 1]; `unchanged` for a network that takes images in [-1, 1] as they are.
        held: the module that holds the weights, which `module` may be a function of.
        embed_texts: B captions -> embeddings (B, D), where the network has a text tower.
    """

    name: str
    module: Callable
    transform: Callable[[torch.Tensor], torch.Tensor]
    held: nn.Module
    embed_texts: Callable[[list[str]], torch.Tensor] | None = None


def torchvision_logits(name: str, weights: str, spec: str, **arguments: Any) -> Parts:
    module, size = with_weights(spec, lambda: _torchvision(name, weights, arguments))
    return Parts(spec, module, Transform(size, *IMAGENET), module)


def torchvision_features(name: str, weights: str, spec: str, size: int | None = None, mode: str = "bicubic") -> Parts:
    """The features are what the last layer takes."""
    models = package("torchvision.models", "torchvision")
    if name not in models.list_models(models):
        raise ValueError(f"torchvision knows no model {name!r}; see torchvision.models.list_models()")
    module, _ = with_weights(spec, lambda: _torchvision(name, weights, {}))
    last, _ = list(module.named_children())[-1]  # fc, classifier, head or heads
    setattr(module, last, nn.Identity())
    return Parts(f"torchvision/{name}", module, Transform(size or 224, *IMAGENET, mode), module)


def _torchvision(name: str, weights: str, arguments: dict) -> tuple[nn.Module, int | None]:
    models = package("torchvision.models", "torchvision")
    known = models.get_model_weights(name)
    entry = known.DEFAULT if weights in ("", "DEFAULT") else getattr(known, weights, None)
    if entry is not None:
        # Never `weights=` of the constructor: torchvision would unpickle the whole file.
        state = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
        arguments.setdefault("num_classes", len(entry.meta["categories"]))
    else:
        state = read_weights(Path(weights))
    if "inception" in name or name == "googlenet":
        # As torchvision sets them for its weights: auxiliary heads, which are part of the file and idle in eval mode,
        # and an input that the network itself takes from ImageNet's mean and standard deviation to its own.
        arguments = {"init_weights": False, "aux_logits": True, "transform_input": True} | arguments
    module = models.get_model(name, weights=None, **arguments)
    module.load_state_dict(state)
    return module, getattr((entry or known.DEFAULT).transforms(), "crop_size", [None])[0]


def timm_logits(name: str, weights: str, spec: str, **arguments: Any) -> Parts:
    timm = package("timm")

    def build() -> nn.Module:
        module = timm.create_model(name, pretrained=not weights, **arguments)
        if weights:
            module.load_state_dict(read_weights(Path(weights)))
        return module

    module = with_weights(spec, build)
    config = timm.data.resolve_model_data_config(module)
    size = arguments.get("img_size", config["input_size"][-1])
    return Parts(spec, module, Transform(size, tuple(config["mean"]), tuple(config["std"])), module)


def timm_features(
    name: str, weights: str, spec: str, size: int | None = None, mode: str = "bicubic", **arguments: Any
) -> Parts:
    """The pooled feature of a model with `img_size`; both sides are resized without a crop."""
    timm = package("timm")
    if weights:
        check_weights(Path(weights))
        arguments["pretrained_cfg_overlay"] = {"file": weights}
    size = size or 224
    module = with_weights(
        name, lambda: timm.create_model(name, pretrained=True, num_classes=0, img_size=size, **arguments)
    )
    return Parts(f"timm/{name}", module, timm_transform(module.pretrained_cfg, size, mode), module)


def lite_logits(name: str, weights: str, spec: str) -> Parts:
    module, transform = _lite(name, weights, spec)
    return Parts(spec, module, transform, module)


def lite_features(name: str, weights: str, spec: str, size: int | None = None, mode: str = "bicubic") -> Parts:
    """The pooled feature, (B, 1280)."""
    module, transform = _lite(name, weights, spec, size or 224, mode)
    module.reset_classifier(0)
    return Parts(name, module, transform, module)


def _lite(
    name: str, weights: str, spec: str, size: int = 224, mode: str = "bicubic"
) -> "tuple[EfficientNet, Transform]":
    if weights:
        raise ValueError(f"{spec}: its weights come from a package; for other weights give timm:{NAMES['lite0']}:FILE")
    timm, held = package("timm"), package(PACKAGE, PACKAGE.replace("_", "-"))
    module = with_weights(spec, lambda: efficientnet_lite(name, timm, held))
    return module, timm_transform(module.pretrained_cfg, size, mode)


def random_features(
    name: str, seed: str, spec: str, size: int | None = None, mode: str = "bicubic", **arguments: Any
) -> Parts:
    """Random weights; the seed stands in place of the weights. The global generator is not used."""
    timm, size = package("timm"), size or 224
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed or 0))
        module = timm.create_model(name, pretrained=False, num_classes=0, img_size=size, **arguments)
    return Parts(f"random/{name}/{int(seed or 0)}", module, timm_transform(module.pretrained_cfg, size, mode), module)


def timm_transform(config: Mapping[str, Any], size: int, mode: str = "bilinear") -> Transform:
    """Mean and standard deviation as the model's `pretrained_cfg` has them."""
    return Transform(size, tuple(config["mean"]), tuple(config["std"]), mode)


def open_clip_logits(
    name: str, weights: str, spec: str, classes: Sequence[str] = (), templates: Sequence[str] = ("{}",)
) -> Parts:
    """Zero-shot: `classes` by text, embedded once, here; see `class_embeddings`."""

    def build() -> tuple[ZeroShot, Transform]:
        model, embed = _open_clip(name, weights)
        scale = float(model.logit_scale.exp())
        config = package("open_clip", "open_clip_torch").get_model_preprocess_cfg(model)
        size = config["size"][0] if isinstance(config["size"], tuple | list) else config["size"]
        transform = Transform(size, tuple(config["mean"]), tuple(config["std"]))
        with torch.no_grad():
            return ZeroShot(model.visual, class_embeddings(embed, classes, templates), scale), transform

    module, transform = with_weights(spec, build)
    return Parts(spec, module, transform, module)


def open_clip_features(name: str, weights: str, spec: str, size: int | None = None, mode: str = "bicubic") -> Parts:
    """The embedding of the image tower, and texts in the same space. The size is the model's own."""
    if name not in package("open_clip", "open_clip_torch").list_models():
        raise ValueError(f"open_clip knows no model {name!r}; see open_clip.list_models()")
    model, embed = with_weights(name, lambda: _open_clip(name, weights))
    own = model.visual.image_size
    transform = Transform(own[0] if isinstance(own, tuple) else own, *CLIP)
    return Parts(f"open_clip/{name}", model.encode_image, transform, model, embed)


def _open_clip(name: str, weights: str) -> "tuple[Clip, Callable[[list[str]], torch.Tensor]]":
    open_clip = package("open_clip", "open_clip_torch")
    if not weights:
        raise ValueError("open_clip has several weights for a model; name one of its tags, or a safetensors file")
    if weights not in open_clip.list_pretrained_tags_by_model(name):
        check_weights(Path(weights))
    model = open_clip.create_model(name, pretrained=weights).eval()
    tokenizer = open_clip.get_tokenizer(name)

    def embed_texts(captions: list[str]) -> torch.Tensor:
        with torch.no_grad():
            device = next(model.parameters()).device
            return model.encode_text(tokenizer(captions).to(device)).float()

    return model, embed_texts


def pretrained_logits(name: str, folder: str, spec: str) -> Parts:
    """It takes images in [-1, 1] as they are."""

    def build() -> nn.Module:
        cls = known_class(name)
        # By default transformers asks on the terminal whether to run code from the folder.
        safe = {"trust_remote_code": False} if cls.__module__.startswith("transformers.") else {}
        return cls.from_pretrained(folder, use_safetensors=True, **safe)

    module = with_weights(spec, build)
    return Parts(spec, module, unchanged, module)


def local_features(folder: str, weights: str, spec: str, size: int | None = None, mode: str = "bilinear") -> Parts:
    from .patch_encoder import PatchEncoder

    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"there is no encoder in {folder}; scripts/training/encoder.py makes one")
    module = with_weights(spec, lambda: PatchEncoder.from_pretrained(folder, use_safetensors=True))
    return Parts(f"local/{Path(folder).name}", module, module.transform(size), module)


def inception_features(name: str, weights: str, spec: str, size: int | None = None, mode: str = "bicubic") -> Parts:
    """torch-fidelity's, with the resize of TensorFlow 1 and 8-bit input; features (B, 2048), and logits."""
    fidelity = package("torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity")
    if weights:
        state = read_weights(Path(weights))
    else:
        download = torch.hub.load_state_dict_from_url
        state = with_weights("Inception-V3", lambda: download(fidelity.URL_INCEPTION_V3, weights_only=True))
    # Their constructor unpickles what it is given, so it is given bytes that were written here.
    source = io.BytesIO()
    torch.save(state, source)
    source.seek(0)
    build = fidelity.FeatureExtractorInceptionV3
    module = with_weights("Inception-V3", lambda: build("inception", ["2048", "logits_unbiased"], source))

    def run(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(("features", "logits"), module(images), strict=True))

    return Parts("inception-v3", run, _eight_bits, module)


def _eight_bits(images: torch.Tensor) -> torch.Tensor:
    return (images * 255).round().to(torch.uint8)


def package(module: str, name: str | None = None) -> ModuleType:
    """The module of an optional package, imported when it is needed.

    Raises:
        ValueError: it is not installed; the message says how to get it.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = name or module
        raise ValueError(f"this network needs {name} (pip install {name}): {error}") from None
