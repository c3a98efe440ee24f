"""Load a checkpoint of any pipeline of diffusers or of this package, from a folder, a hub id or what ships."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline

from diffusion_guidance import pipelines
from diffusion_guidance.core.trust import check_parts
from diffusion_guidance.worlds.shipped import shipped_path


def load_pipeline(
    name: str | Path,
    dtype: str | torch.dtype = "float32",
    device: str | torch.device | None = None,
    trust_guidance: bool = False,
    **kwargs: Any,
) -> DiffusionPipeline:
    """The pipeline at `name`, of the class that it was saved as, without its own progress bar.

    Args:
        name: a folder, a hub id, or one of `assets/shapes`, `assets/digits` and `assets/emoji`, which ship.
        dtype: of the weights, as torch's or by its name.
        device: to move it to; None for CUDA where there is one, else the CPU.
        trust_guidance: also take callbacks of a guidance.json of the checkpoint that name files, networks or libraries.
        kwargs: for `from_pretrained`. Weights are read from safetensors only.

    Raises:
        ValueError: it cannot be read; the message says why in one line.
    """
    name = shipped_path(str(name))
    try:
        index = DiffusionPipeline.load_config(name)
        # Parts that were saved as absent must be named, or diffusers calls them missing (SD3's third text encoder).
        absent = {part: None for part, kind in index.items() if isinstance(kind, list) and kind[:2] == [None, None]}
        check_parts(index)
        kind = _class(index["_class_name"])
        if kind is not DiffusionPipeline:
            kwargs["trust_guidance"] = trust_guidance
        kwargs = {"dtype": getattr(torch, dtype) if isinstance(dtype, str) else dtype, **absent, **kwargs}
        pipe = kind.from_pretrained(name, use_safetensors=True, **kwargs)
    except Exception as error:  # diffusers, safetensors and the hub each raise their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"cannot load a pipeline from {name!r}: {reason[:300]}") from error
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _class(name: object) -> type[DiffusionPipeline]:
    if not isinstance(name, str):  # a list names a file of code in the checkpoint too
        raise ValueError(f"its model_index.json names the class {name!r}, which is code of its own; it is not run")
    if name in pipelines.__all__ and name.endswith("Pipeline"):
        return getattr(pipelines, name)
    if not hasattr(diffusers, name):
        raise ValueError(f"neither diffusers nor this package has a pipeline {name!r}")
    return DiffusionPipeline
