"""Who calls: a pipeline's own code, another pipeline, or a loop written by hand. Seen on the stack, not assumed.

A network and a scheduler can belong to several pipelines, and anybody can call them. Whether a call belongs to a
pipeline's run is decided by the method that makes it.
"""

import functools
import sys
from types import CodeType, FrameType

from ..core.protocols import Pipeline


def running(pipe: Pipeline) -> object | None:
    """The pipeline whose method is nearest on the stack: `pipe`, another one, or None for a loop written by hand."""
    frame, _ = _nearest(pipe, sys._getframe(1))
    return None if frame is None else _self(frame)


def calls_itself(pipe: Pipeline) -> bool:
    """Whether `pipe`'s own code makes this call of a network; False for what a user's function does meanwhile, such as
    a preview in `callback_on_step_end`."""
    frame, callee = _nearest(pipe, sys._getframe(1))
    return frame is not None and _self(frame) is pipe and not _is_callback(frame, callee)


def _nearest(pipe: Pipeline, frame: FrameType | None) -> tuple[FrameType | None, FrameType | None]:
    """The frame of the nearest method of a pipeline, and the one that it called."""
    kind, callee = _pipeline_class(), None
    while frame is not None:
        owner = _self(frame)
        if owner is not None and (owner is pipe or (kind is not None and isinstance(owner, kind))):
            return frame, callee
        frame, callee = frame.f_back, frame
    return None, None


def _pipeline_class() -> type | None:
    """None where diffusers' module was not imported: importing it is slow, and then there are none."""
    module = sys.modules.get("diffusers.pipelines.pipeline_utils")
    return None if module is None else getattr(module, "DiffusionPipeline", None)


def _is_callback(frame: FrameType, callee: FrameType | None) -> bool:
    """Whether `callee` runs one of the functions that the user gave to the method of `frame`."""
    if callee is None:
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
