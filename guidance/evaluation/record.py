"""The record of an image, as text in its PNG file: enough to draw it again with the checkpoint at hand."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..core.callback import Callback
from ..core.configuration import from_config
from ..core.json_files import parse_json
from ..core.protocols import Pipeline
from ..core.trust import require_plain
from .identity import pipeline_weights, versions


if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo

KEY = "diffusion-guidance"
_SHORT = 10_000  # letters of a text in a record


@dataclass(frozen=True)
class Record:
    """How an image was drawn. The name of the pipeline is not kept: it can be a private path.

    `checkpoint` is a SHA-256 of the digests of the files that the pipeline was loaded from, `guidance` is as
    `to_config` gives it, and `call` holds the arguments of the pipeline's call.
    """

    condition: str | int
    seed: int
    guidance: list[dict]
    call: dict[str, Any]
    dtype: str
    checkpoint: str
    versions: dict[str, str]

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Record":
        """From what `generate` keeps in its settings.json, as `drawing` gives it; without condition and seed yet."""
        guidance, call, dtype = (settings[name] for name in ("guidance", "call", "dtype"))
        return cls("", 0, guidance, call, dtype, checkpoint_digest(settings["weights"]), versions())

    def info(self) -> "PngInfo":
        """For Pillow's `save(pnginfo=)`."""
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_text(KEY, json.dumps(vars(self), sort_keys=True))
        return info

    def callbacks(self, trust: bool, source: object) -> list[Callback]:
        """What guided it. Raises ValueError as `load_accompanying` does: the image may be anybody's file."""
        if not trust:
            require_plain(self.guidance, source, "give --trust-guidance if you trust its author")
        return from_config(self.guidance)


def drawing(pipe: Pipeline, guidance: list[dict], call: dict[str, Any], dtype: str) -> dict[str, Any]:
    """What decides an image, next to condition and seed: `guidance` as `to_config` gives it, and the weights."""
    return {"guidance": guidance, "call": call, "dtype": dtype, "weights": pipeline_weights(pipe)}


def read_record(path: str | os.PathLike) -> Record:
    """The record of a PNG file; nothing in it is loaded or run.

    Raises:
        ValueError: the file is not an image, has no record, or its record holds what `generate` would not write:
            arguments of the call that are neither numbers nor prompts among it.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            text = image.info.get(KEY)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a PNG image: {error}") from None
    if not isinstance(text, str):
        raise ValueError(f"{path} does not say how it was drawn; give an image that generate wrote, not a copy")
    try:
        values = parse_json(text)
    except ValueError as error:
        raise ValueError(f"{path} has a damaged record: {error}") from None
    if fault := _fault(values):
        raise ValueError(f"{path} has a record that generate did not write: {fault}")
    return Record(**values)


def checkpoint_digest(weights: Mapping[str, str]) -> str:
    """One SHA-256 for what `pipeline_weights` gives; "" where nothing is known."""
    return hashlib.sha256(json.dumps(dict(weights), sort_keys=True).encode()).hexdigest() if weights else ""


def _fault(values: Any) -> str | None:
    """What is wrong with a record, in words; None for a valid one."""
    kinds: dict[str, type | tuple[type, ...]] = {"condition": (str, int), "seed": int, "guidance": list, "call": dict}
    kinds |= {"dtype": str, "checkpoint": str, "versions": dict}
    if not isinstance(values, dict) or values.keys() != kinds.keys():
        return f"it has not exactly {', '.join(kinds)}"
    for name, kind in kinds.items():
        if not isinstance(values[name], kind) or isinstance(values[name], bool) or len(str(values[name])) > 20 * _SHORT:
            return f"{name} is {str(values[name])[:60]!r}"
    if values["dtype"] not in ("float32", "bfloat16", "float16"):
        return f"dtype is {values['dtype'][:60]!r}"
    if not 0 <= values["seed"] < 1 << 63:
        return f"seed is {values['seed']}"
    if not all(isinstance(entry, dict) and isinstance(entry.get("callback"), str) for entry in values["guidance"]):
        return "guidance is not a list of callbacks"
    for name, value in values["call"].items():
        if not (value is None or isinstance(value, int | float) or ("prompt" in name and isinstance(value, str))):
            return f"the call has {name[:50]}={str(value)[:60]!r}, which is neither a number nor a prompt"
    return None
