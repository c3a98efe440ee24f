"""Describe how a pipeline guides, as a `Family` to paste."""

from dataclasses import Field, fields
from typing import Any

from ..core.protocols import Pipeline
from .attach import attach
from .families import Family, formulas
from .families.layout import PLAIN


def describe(pipe: Pipeline, *args: Any, **kwargs: Any) -> str:
    """Call `pipe` once, guided, and return the `Family` that describes it as Python source.

    Args:
        pipe: a diffusers pipeline; nothing may be attached to it.
        args, kwargs: of its call: such that it guides, with few steps.

    Raises:
        ValueError: what the pipeline does could not be seen, or is not what its registered family says.
        RuntimeError: something is attached to the pipeline already, or it did not step its scheduler.
    """
    with attach(pipe, lambda step, proceed: proceed(step)) as attachment:
        pipe(*args, **kwargs)
        family = attachment.family
    if family is None:
        raise RuntimeError(f"{type(pipe).__name__} did not step its scheduler, so nothing of it was seen")
    return source(family)


def source(family: Family) -> str:
    """Python source of `family`: the facts that are not the default ones; functions by their name."""
    facts = [field for field in fields(family) if _is_said(field, getattr(family, field.name))]
    lines = [f"    {field.name}={written(getattr(family, field.name))}," for field in facts]
    return "\n".join([f"{type(family).__name__}(", *lines, ")"])


def _is_said(field: Field, value: object) -> bool:
    if field.name in ("inside", "outside") and value == PLAIN:
        return False
    return value != field.default


def written(value: Any) -> str:
    name = next((name for name, known in vars(formulas).items() if known is value), None)
    if name is not None:
        return f"formulas.{name}"
    return f"{value.__module__}.{value.__qualname__}" if callable(value) else repr(value)
