"""Encoders for detectors: any network that `loading` knows, or any function of images."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch

from .libraries import Parts, random_features
from .loading import load
from .network import Network
from .preprocessing import AS_IS, Transform


DEFAULT = "timm:vit_large_patch14_dinov2.lvd142m"


class Encoder(Network):
    """A network whose input is prepared separately, so that noise can be added to it, and its identity.

    Args:
        name: for reports and as part of the identity.
        network: normalised images (N, 3, size, size) -> features (N, D), independent of the batch: no batch
            statistics, no dropout.
        transform: images (B, 3, H, W) in [0, 1] to the network's input; the noise is added after it.
        device, dtype: of the network.
        weights: SHA-256 of the weights; None reads them from the network, if that is a module.
    """

    transform: Transform

    def __init__(
        self,
        name: str,
        network: Callable[[torch.Tensor], torch.Tensor],
        transform: Transform = AS_IS,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        weights: str | None = None,
    ):
        super().__init__(name, network, transform, weights=weights)
        self.device, self.dtype = device, dtype

    @property
    def size(self) -> int | None:
        """Pixels per side that images are resized to; None keeps them."""
        return self.transform.size

    @cached_property
    def identity(self) -> dict:
        """JSON-serialisable: `encoder`, `weights` (SHA-256), `preprocessing`, `dtype`. Saved with calibrations."""
        return {
            "encoder": self.name,
            "weights": self.weights_hash(),
            "preprocessing": self.preprocessing(),
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def features(self, inputs: torch.Tensor) -> torch.Tensor:
        """(N, D) float32 features of normalised images (N, 3, H, W).

        Raises:
            ValueError: the network gave another shape.
        """
        return self.run(inputs.to(self.dtype))["features"].float()

    def to(self, *args: Any, **kwargs: Any) -> "Encoder":
        """The encoder on another device or in another dtype, and its module with it, as in torch."""
        super().to(*args, **kwargs)
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        self.device, self.dtype = device or self.device, dtype or self.dtype
        self.__dict__.pop("identity", None)
        return self


def load_encoder(
    spec: str | Callable[[torch.Tensor], torch.Tensor] = DEFAULT,
    device: str | torch.device = "cpu",
    size: int | None = None,
) -> Encoder:
    """Load an encoder by its short form.

    Args:
        spec: a string of `loading` (timm, open_clip, torchvision, `local:FOLDER`, `random:NAME[:SEED]`), an `Encoder`,
            or a function of images (N, 3, H, W) in [0, 1].
        size: pixels per side, in place of the encoder's own: 224 for timm and torchvision, as in the paper. Both sides
            are resized, bilinear, without a crop.

    Raises:
        ValueError: an unknown form or name, missing weights (offline, give the path of the file), or a missing
            package.
    """
    if isinstance(spec, Encoder):
        return spec.to(device)
    if not isinstance(spec, str):
        name = getattr(spec, "__name__", type(spec).__name__)
        return Encoder(name, spec, Transform(size, mode="bilinear"), device).to(device)
    parts = load(spec, "features", "encoder", device, size=size, mode="bilinear")
    return _encoder(parts, device)


def random_encoder(
    name: str, seed: int = 0, size: int = 224, device: str | torch.device = "cpu", **arguments: Any
) -> Encoder:
    """The timm transformer `name` with random weights of `seed`; the global generator is not used.

    Args:
        arguments: more for `timm.create_model`.
    """
    parts = random_features(name, str(seed), name, size, "bilinear", **arguments)
    parts.held.eval().requires_grad_(False).to(device)
    return _encoder(parts, device)


def _encoder(parts: Parts, device: str | torch.device) -> Encoder:
    if not isinstance(parts.transform, Transform):
        raise ValueError(
            f"{parts.name} prepares images itself, so no noise can be added after it; take another encoder"
        )
    return Encoder(parts.name, parts.module, parts.transform, device)
