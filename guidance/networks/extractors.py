"""Features of pictures from any network: Inception-V3, DINOv2, CLIP, or a callable. Weights are safetensors files."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch.nn import functional

from ..core.files import file_digest
from .weights import check_weights, read_weights, weights_sha256, with_weights


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True)
class Transform:
    """What is done to pictures (B, 3, H, W) in [0, 1] before a network sees them: resize both sides, then normalise.

    Args:
        size: pixels a side; None leaves the size alone.
        mean, std: per channel.
        mode: "bicubic" or "bilinear", with antialiasing.
    """

    size: int | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    mode: str = "bicubic"

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        if self.size is not None and images.shape[-2:] != (self.size, self.size):
            images = functional.interpolate(images, (self.size, self.size), mode=self.mode, antialias=True).clamp(0, 1)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std


@dataclass(frozen=True)
class Extractor:
    """A network with its input transform.

    Args:
        name: for reports; figures of different extractors must not be compared.
        network: pictures as `transform` gives them -> features (B, D), or a dict with "features" and, for the
            Inception score, "logits" (B, classes).
        transform: of pictures (B, 3, H, W) float32 in [0, 1].
        device: where the network is.
        embed_texts: B captions -> embeddings (B, D) in the space of the features, for the CLIP score.
        weights: the module that holds them, for the identity, where `network` is another function.
    """

    name: str
    network: Callable[[torch.Tensor], torch.Tensor | dict[str, torch.Tensor]]
    transform: Callable[[torch.Tensor], torch.Tensor] = Transform()
    device: str | torch.device = "cpu"
    embed_texts: Callable[[list[str]], torch.Tensor] | None = None
    weights: torch.nn.Module | None = None

    @cached_property
    def identity(self) -> dict[str, str | None]:
        """Name, SHA-256 of the weights and resize: features of others must not be compared. None is not known."""
        network = self.weights or getattr(self.network, "__self__", self.network)
        weights = weights_sha256(network) if isinstance(network, torch.nn.Module) else None
        size = self.transform.size if isinstance(self.transform, Transform) else None
        return {"name": self.name, "weights": weights, "resize": size and f"{size} {self.transform.mode}"}

    @torch.inference_mode()
    def __call__(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """`features` (B, D) float32, and `logits` where the network gives them.

        Raises:
            ValueError: pictures or features of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"expected pictures (B, 3, H, W) in [0, 1], got {tuple(images.shape)}")
        result = self.network(self.transform(images.to(self.device, torch.float32)))
        result = result if isinstance(result, dict) else {"features": result}
        if result["features"].ndim != 2 or len(result["features"]) != len(images):
            raise ValueError(f"{self.name} gave {tuple(result['features'].shape)}; features are (B, D)")
        return {name: values.float() for name, values in result.items()}


def inception(weights: Path | None = None, device: str | torch.device = "cpu") -> Extractor:
    """Inception-V3 as FID is defined: torch-fidelity's, with the resize of TensorFlow 1 and 8-bit input; D = 2048.

    Args:
        weights: safetensors file of torch-fidelity's weights; None downloads theirs.

    Raises:
        ValueError: torch-fidelity or the weights are missing.
    """
    fidelity = _package("torch_fidelity.feature_extractor_inceptionv3", "torch-fidelity")
    if weights is None:
        download = torch.hub.load_state_dict_from_url
        state = with_weights("Inception-V3", lambda: download(fidelity.URL_INCEPTION_V3, weights_only=True))
    else:
        state = read_weights(weights)
    # Their constructor unpickles what it is given, so it is given bytes that were written here.
    source = io.BytesIO()
    torch.save(state, source)
    source.seek(0)
    build = fidelity.FeatureExtractorInceptionV3
    network = with_weights("Inception-V3", lambda: build("inception", ["2048", "logits_unbiased"], source))
    network = network.to(device)

    def run(images: torch.Tensor) -> dict[str, torch.Tensor]:
        return dict(zip(("features", "logits"), network(images), strict=True))

    return Extractor(
        "inception-v3", run, lambda images: (images * 255).round().to(torch.uint8), device, weights=network
    )


def dinov2(
    weights: Path | None = None,
    device: str | torch.device = "cpu",
    name: str = "vit_large_patch14_dinov2.lvd142m",
    size: int = 224,
    **arguments,
) -> Extractor:
    """A vision transformer of timm, by default DINOv2 ViT-L/14; the pooled feature, D = 1024.

    Args:
        weights: safetensors file; None downloads timm's.
        name: of any timm model that has `img_size`.
        size: pixels a side that pictures are resized to, bicubic.
        arguments: more for `timm.create_model`.

    Raises:
        ValueError: timm or the weights are missing, or timm knows no such model.
    """
    timm = _package("timm")
    if weights is not None:
        check_weights(Path(weights))
        arguments["pretrained_cfg_overlay"] = {"file": str(weights)}
    network = with_weights(
        name, lambda: timm.create_model(name, pretrained=True, num_classes=0, img_size=size, **arguments)
    )
    network = network.eval().to(device)
    return Extractor(f"timm/{name}", network, Transform(size, *IMAGENET), device)


def clip(
    weights: Path | str = "openai",
    device: str | torch.device = "cpu",
    name: str = "ViT-L-14-336",
) -> Extractor:
    """CLIP by open_clip, for CMMD (its authors use ViT-L/14 at 336 pixels) and the CLIP score.

    Args:
        weights: safetensors file, or one of open_clip's tags, which it downloads.
        name: of an open_clip model.

    Raises:
        ValueError: open_clip or the weights are missing, or open_clip knows no such model.
    """
    open_clip = _package("open_clip", "open_clip_torch")
    if name not in open_clip.list_models():
        raise ValueError(f"open_clip knows no model {name!r}; see open_clip.list_models()")
    tag = str(weights)
    if tag not in open_clip.list_pretrained_tags_by_model(name):
        check_weights(Path(weights))
    network = with_weights(name, lambda: open_clip.create_model(name, pretrained=tag, device=device)).eval()
    tokenizer = open_clip.get_tokenizer(name)

    @torch.inference_mode()
    def embed_texts(captions: list[str]) -> torch.Tensor:
        return network.encode_text(tokenizer(captions).to(device)).float()

    size = network.visual.image_size
    transform = Transform(size[0] if isinstance(size, tuple) else size, *CLIP)
    return Extractor(f"open_clip/{name}", network.encode_image, transform, device, embed_texts)


def load_extractor(text: str, device: str | torch.device = "cpu") -> Extractor:
    """From the command line's form: `inception`, `dinov2` or `clip`, with `:PATH` for weights in a local file.

    The name of one with a local file ends in the start of the file's SHA-256, so that runs with other weights differ.

    Raises:
        ValueError: another name, or as the functions of those names.
    """
    name, _, weights = text.partition(":")
    known = {"inception": inception, "dinov2": dinov2, "clip": clip}
    if name not in known:
        raise ValueError(f"unknown extractor {name!r}; known are {', '.join(known)}")
    if not weights:
        return known[name](device=device)
    extractor = known[name](Path(weights), device)
    return replace(extractor, name=f"{extractor.name} ({file_digest(Path(weights))[:12]})")


def _package(module: str, name: str | None = None):
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"this extractor needs {name or module} (pip install {name or module}): {error}") from None
