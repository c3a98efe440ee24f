"""Weights of networks from files: safetensors only, errors that say what to do, and a hash to distinguish them."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file


T = TypeVar("T")


def check_weights(path: Path) -> None:
    """Raise ValueError unless `path` is a safetensors file; nothing is ever unpickled."""
    if not path.is_file():
        raise ValueError(f"there are no weights at {path}")
    if path.suffix != ".safetensors":
        raise ValueError(
            f"weights must be a safetensors file, not {path.name}; convert it once, where you trust it: "
            "safetensors.torch.save_file(torch.load(OLD, weights_only=True), NEW)"
        )


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file. Raises ValueError if it is another file, or broken."""
    check_weights(Path(path))
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"cannot read weights from {path}: {error}") from None


def with_weights(name: str, build: Callable[[], T]) -> T:
    """What `build` makes. Raises ValueError, in one line, whatever goes wrong."""
    try:
        return build()
    except Exception as error:  # each library, and each hub, raises its own
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"cannot load {name}: {reason}; offline, give the path of its weights") from error


def weights_sha256(module: torch.nn.Module) -> str:
    """SHA-256 of names, dtypes, shapes and values of all parameters and buffers, from whichever file or device."""
    return tensors_sha256(module.state_dict())


def tensors_sha256(tensors: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name, values in sorted(tensors.items()):
        values = values.detach().cpu().contiguous()
        digest.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
