"""What a result was made with: weights of the pipeline, extractor, versions of the libraries."""

import os
from collections.abc import Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from ..core.digests import file_digests
from ..core.protocols import Pipeline


#: Distributions that numbers may depend on; torch itself also names its build.
_PACKAGES = (
    *("diffusers", "transformers", "accelerate", "numpy", "pillow", "scipy", "scikit-learn", "torchvision"),
    *("torchmetrics", "torch-fidelity", "timm", "open_clip_torch"),
)
#: Weights in formats that are never loaded, and files that say nothing about the pipeline.
_IGNORED = frozenset({".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".onnx", ".md", ".png", ".jpg", ".jpeg", ".webp"})


def versions() -> dict[str, str]:
    """Installed versions of the libraries that a result depends on."""
    import platform

    import torch

    from ..core.version import __version__

    found = {"guidance": __version__, "python": platform.python_version(), "torch": str(torch.__version__)}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            if known := metadata.version(name):  # None while it is being installed
                found[name.removesuffix("_torch")] = known
    return found


def pipeline_weights(pipe: Pipeline) -> dict[str, str]:
    """File -> SHA-256 of all that `pipe` was loaded from, in a folder or in the hub's cache; empty if made in memory.

    Large files are read once, as `file_digests` remembers them.
    """
    config = getattr(pipe, "config", None)
    if not isinstance(config, Mapping) or not config.get("_name_or_path"):
        return {}
    folder = _folder(os.fspath(config["_name_or_path"]))
    if folder is None:
        return {}
    files = [path for path in sorted(folder.glob("*.json")) if path.is_file()]
    for part in sorted(key for key in config if (folder / key).is_dir() and not key.startswith("_")):
        files += sorted(path for path in (folder / part).rglob("*") if path.is_file() and _counts(path))
    digests = file_digests(files)
    return {path.relative_to(folder).as_posix(): digests[str(path)] for path in files}


def check_extractors(ours: Mapping | str | None, theirs: Mapping | str | None) -> None:
    """Raise ValueError if two sides are known to come from different extractors: name, weights or resize.

    What a side does not state (statistics from elsewhere) is not compared.
    """
    if ours is None or theirs is None:
        return
    sides = [{"name": side} if isinstance(side, str) else side for side in (ours, theirs)]
    known = {key for key in ("name", "weights", "resize") if all(side.get(key) is not None for side in sides)}
    if "weights" in known:
        known.discard("name")  # which may only say where the weights came from
    if differing := sorted(key for key in known if sides[0][key] != sides[1][key]):
        texts = [
            ", ".join(f"{key} {_short(side[key])}" for key in ["name", *differing] if key in side) for side in sides
        ]
        raise ValueError(
            f"features of an extractor with {texts[0]} cannot be compared with those of one with {texts[1]}; "
            "measure both sides with one extractor"
        )


def _folder(name: str) -> Path | None:
    if os.path.isdir(name):
        return Path(name)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        index = try_to_load_from_cache(name, "model_index.json")
    except HFValidationError:  # not the name of a repository
        return None
    return Path(index).parent if isinstance(index, str) else None


def _counts(path: Path) -> bool:
    return not path.name.startswith(".") and path.suffix.lower() not in _IGNORED


def _short(value: object) -> str:
    return f"{value[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)
