"""Who calls: a pipeline's own code, another pipeline, or a loop written by hand. Seen on the stack, not assumed.

A network and a scheduler can belong to several pipelines, and anybody can call them. Whether a call belongs to a
pipeline's run is decided by the method that makes it.
"""

import functools
import sys
from pathlib import Path
from types import CodeType, FrameType

import torch

from ..core.protocols import Pipeline


# Files between a pipeline's code and its network's: torch's modules, and what an attachment puts there.
_NO_PIPELINES = {torch.nn.Module.__call__.__code__.co_filename, __file__}
_OURS = ("attached", "hooks", "recorder", "replacement", "runs", "stepping")
_NO_PIPELINES |= {str(Path(__file__).with_name(f"{name}.py")) for name in _OURS}


def running(pipe: Pipeline, known: FrameType | None = None) -> object | None:
    """The pipeline whose method is nearest on the stack: `pipe`, another one, or None for a loop written by hand.

    `known` is what `own_frame` gave: reading the variables of a frame is slow, so it is spared where the frame is that
    one.
    """
    frame, _ = _nearest(pipe, sys._getframe(1), known)
    if frame is None:
        return None
    return pipe if frame is known else _self(frame)


def own_frame(pipe: Pipeline, known: FrameType | None = None) -> FrameType | None:
    """The frame of `pipe`'s own method that makes this call of a network. None where anybody else makes it, such as a
    user's function that draws a preview in `callback_on_step_end`."""
    frame, callee = _nearest(pipe, sys._getframe(1), known)
    if frame is None or _is_callback(frame, callee):
        return None
    return frame if frame is known or _self(frame) is pipe else None


def _nearest(
    pipe: Pipeline, frame: FrameType | None, known: FrameType | None
) -> tuple[FrameType | None, FrameType | None]:
    """The frame of the nearest method of a pipeline, and the one that it called."""
    kind, callee = _pipeline_class(), None
    while frame is not None and frame is not known:
        if frame.f_code.co_filename not in _NO_PIPELINES:
            owner = _self(frame)
            if owner is not None and (owner is pipe or (kind is not None and isinstance(owner, kind))):
                break
        frame, callee = frame.f_back, frame
    return (None, None) if frame is None else (frame, callee)


def _pipeline_class() -> type | None:
    """None where diffusers' module was not imported: importing it is slow, and then there are none."""
    module = sys.modules.get("diffusers.pipelines.pipeline_utils")
    return None if module is None else getattr(module, "DiffusionPipeline", None)


def _is_callback(frame: FrameType, callee: FrameType | None) -> bool:
    """Whether `callee` runs one of the functions that the user gave to the method of `frame`."""
    if callee is None or callee.f_code.co_filename in _NO_PIPELINES:
        return False
    values = frame.f_locals
    return any(name.startswith("callback") and _code(values[name]) is callee.f_code for name in values)


def _code(function: object) -> CodeType | None:
    while isinstance(function, functools.partial):
        function = function.func
    code = getattr(function, "__code__", None)
    return code or getattr(getattr(type(function), "__call__", None), "__code__", None)  # noqa: B004 (its code is wanted)


def _self(frame: FrameType) -> object | None:
    code = frame.f_code
    if code.co_argcount and code.co_varnames[0] == "self":
        return frame.f_locals.get("self")
    return None
