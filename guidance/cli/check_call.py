"""Check the arguments of a pipeline's call before anything is drawn."""

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def check_call(pipe: "DiffusionPipeline", asked: Sequence[str | int], call: Mapping[str, object]) -> None:
    """Raise ValueError if the pipeline does not take its arguments: prompts or class ids, and `call`."""
    known, name = inspect.signature(pipe.__call__).parameters, type(pipe).__name__
    highest = max((each for each in asked if isinstance(each, int)), default=None)
    given = "prompt" if highest is None else "class_labels"
    if given not in known:
        other = "--classes" if "class_labels" in known else "--prompt"
        raise ValueError(f"{name} takes no {given}; give {other}")
    classes = getattr(getattr(pipe, "transformer", None), "config", {}).get("num_embeds_ada_norm")
    if highest is not None and classes is not None and highest >= classes:
        raise ValueError(f"{name} has class ids from 0 to {classes - 1}, got {highest}")
    open_ended = any(value.kind is value.VAR_KEYWORD for value in known.values())
    if not open_ended and (unknown := set(call) - set(known)):
        raise ValueError(f"{name} takes no argument {', '.join(sorted(unknown))}")
    needed = {key for key, value in known.items() if value.default is value.empty and value.kind.name[:3] != "VAR"}
    if missing := needed - set(call) - {given}:
        raise ValueError(f"{name} also needs {', '.join(sorted(missing))}, which this command cannot give")
