"""Who calls: a pipeline's own code, another pipeline, or a loop written by hand. Seen on the stack, not assumed.

A network and a scheduler can belong to several pipelines, and anybody can call them. Whether a call belongs to a
pipeline's run is decided by the method that makes it.
"""

import sys
from types import FrameType

from diffusers import DiffusionPipeline


# Frames of these lie between a pipeline and the network that it calls.
_BETWEEN = ("torch.", "accelerate.", "diffusers.hooks.", f"{__package__}.")
_PIPELINES = ("diffusers.", "diffusers_modules.")


def running(pipe, frame: FrameType | None = None) -> object | None:
    """The pipeline whose method is nearest on the stack: `pipe`, another one, or None for a loop written by hand."""
    frame = frame or sys._getframe(1)
    while frame is not None:
        owner = _self(frame)
        if owner is pipe or isinstance(owner, DiffusionPipeline):
            return owner
        frame = frame.f_back
    return None


def calls_itself(pipe) -> bool:
    """Whether `pipe`'s own code makes this call of a network; False for what a user's function does meanwhile."""
    frame = sys._getframe(1)
    while frame is not None and f"{frame.f_globals.get('__name__')}.".startswith(_BETWEEN):
        frame = frame.f_back
    if frame is None:
        return False
    if _self(frame) is pipe:
        return True
    return f"{frame.f_globals.get('__name__')}.".startswith(_PIPELINES) and running(pipe, frame) is pipe


def _self(frame: FrameType) -> object | None:
    code = frame.f_code
    if "self" in code.co_varnames[: code.co_argcount] or "self" in code.co_freevars:
        return frame.f_locals.get("self")
    return None
