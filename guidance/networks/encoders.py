"""Encoders that a detector looks through: timm, open_clip, torchvision, a folder of ours, or any callable."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from .extractors import IMAGENET, Extractor, Transform, clip, dinov2
from .weights import read_weights, weights_sha256, with_weights


AS_IS = Transform()
KINDS = ("timm", "open_clip", "torchvision", "local", "random")
DEFAULT = "timm:vit_large_patch14_dinov2.lvd142m"


@dataclass(frozen=True)
class Encoder:
    """A network with its input transform, and what tells it from others.

    Args:
        name: for reports and as part of the identity.
        network: normalised pictures (N, 3, size, size) -> features (N, D). Its own batch must not matter: no batch
            statistics, no dropout.
        transform: pictures (B, 3, H, W) in [0, 1] to the network's input; the noise is added after it.
        device, dtype: of the network.
        weights: SHA-256 of the weights; None reads them from the network, if that is a module.
    """

    name: str
    network: Callable[[torch.Tensor], torch.Tensor]
    transform: Transform = AS_IS
    device: str | torch.device = "cpu"
    dtype: torch.dtype = torch.float32
    weights: str | None = None

    @property
    def size(self) -> int | None:
        """Pixels a side that pictures are resized to; None leaves them alone."""
        return self.transform.size

    @cached_property
    def identity(self) -> dict:
        """JSON-serialisable: `encoder`, `weights` (SHA-256), `preprocessing`, `dtype`."""
        module = _module(self.network)
        return {
            "encoder": self.name,
            "weights": self.weights or (None if module is None else weights_sha256(module)),
            "preprocessing": json.loads(json.dumps(asdict(self.transform))),
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """(N, D) float32 features of normalised pictures (N, 3, H, W).

        Raises:
            ValueError: the network gave another shape.
        """
        found = self.network(inputs.to(self.dtype))
        if found.ndim != 2 or len(found) != len(inputs):
            raise ValueError(f"{self.name} gave {tuple(found.shape)}; features are (B, D)")
        return found.float()

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> "Encoder":
        """The encoder on another device or in another dtype; its module moves too, as in torch."""
        module = _module(self.network)
        if module is not None:
            module.to(device=device, dtype=dtype)
        return replace(self, device=device or self.device, dtype=dtype or self.dtype)


def load_encoder(
    spec: str | Callable[[torch.Tensor], torch.Tensor] = DEFAULT,
    device: str | torch.device = "cpu",
    size: int | None = None,
) -> Encoder:
    """An encoder by its short form, ready to be used.

    - `timm:NAME[:FILE]`: a vision transformer of timm, with `FILE` (safetensors) for its weights, or timm's own.
    - `open_clip:NAME:TAG` or `open_clip:NAME:FILE`
    - `torchvision:NAME[:FILE]`: a classifier without its last layer.
    - `local:FOLDER`: a `PatchEncoder`, as scripts/training/encoder.py writes it.
    - `random:NAME[:SEED]`: a vision transformer of timm with random weights, the floor of a comparison.
    - an `Encoder`, or a function of pictures (N, 3, H, W) in [0, 1].

    Args:
        size: pixels a side, in place of the encoder's own: 224 for timm and torchvision, as in the paper.

    Raises:
        ValueError: an unknown form or name, missing weights (without a network, give the path of the file), or a
            missing package.
    """
    if isinstance(spec, Encoder):
        return spec.to(device)
    if not isinstance(spec, str):
        name = getattr(spec, "__name__", type(spec).__name__)
        return Encoder(name, spec, Transform(size, mode="bilinear"), device).to(device)
    kind, _, rest = spec.partition(":")
    name, _, weights = rest.partition(":")
    if kind not in KINDS or not name:
        raise ValueError(f"cannot read the encoder {spec!r}; write one of {', '.join(f'{k}:NAME' for k in KINDS)}")
    if kind == "local":
        return _local(Path(rest), device, size)
    if kind == "random":
        return random_encoder(name, int(weights or 0), size or 224, device)
    if kind == "torchvision":
        return _torchvision(name, Path(weights) if weights else None, device, size or 224)
    if kind == "timm":
        extractor = dinov2(Path(weights) if weights else None, device, name, size or 224)
        return _of_extractor(extractor, device, timm_transform(extractor.network, size or 224))
    return _of_extractor(clip(weights or "openai", device, name), device)


def random_encoder(name: str, seed: int = 0, size: int = 224, device: str | torch.device = "cpu", **arguments):
    """An `Encoder`: the timm transformer `name` with random weights of `seed`; the global generator is left alone.

    Args:
        arguments: more for `timm.create_model`.
    """
    import timm  # lazy: slow to import

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = timm.create_model(name, pretrained=False, num_classes=0, img_size=size, **arguments)
    network = network.eval().requires_grad_(False).to(device)
    return Encoder(f"random/{name}/{seed}", network, timm_transform(network, size), device)


def timm_transform(network: torch.nn.Module, size: int) -> Transform:
    """Both sides resized without a crop, as in the paper; mean and deviation are the model's own."""
    config = network.pretrained_cfg
    return Transform(size, tuple(config["mean"]), tuple(config["std"]), "bilinear")


def _of_extractor(extractor: Extractor, device, transform: Transform | None = None) -> Encoder:
    _module(extractor.network).requires_grad_(False)
    return Encoder(extractor.name, extractor.network, transform or replace(extractor.transform), device)


def _torchvision(name: str, weights: Path | None, device, size: int) -> Encoder:
    from torchvision import models  # lazy: slow to import

    if name not in models.list_models(models):
        raise ValueError(f"torchvision knows no model {name!r}; see torchvision.models.list_models()")
    if weights is None:
        network = with_weights(name, lambda: models.get_model(name, weights="DEFAULT"))
    else:
        network = models.get_model(name, weights=None)
        state = read_weights(weights)
        with_weights(name, lambda: network.load_state_dict(state))
    last, _ = list(network.named_children())[-1]  # fc, classifier, head or heads
    setattr(network, last, torch.nn.Identity())
    network = network.eval().requires_grad_(False).to(device)
    return Encoder(f"torchvision/{name}", network, Transform(size, *IMAGENET, "bilinear"), device)


def _local(folder: Path, device, size: int | None) -> Encoder:
    from .patch_encoder import PatchEncoder

    if not (folder / "config.json").is_file():
        raise ValueError(f"there is no encoder in {folder}; scripts/training/encoder.py makes one")
    network = PatchEncoder.from_pretrained(folder, use_safetensors=True).eval().requires_grad_(False).to(device)
    return Encoder(f"local/{folder.name}", network, network.transform(size), device)


def _module(network) -> torch.nn.Module | None:
    owner = getattr(network, "__self__", network)  # a bound method, as CLIP's encode_image
    return owner if isinstance(owner, torch.nn.Module) else None
