"""The registry of families: which describes a pipeline, by the name of its class."""

from ...core.protocols import Pipeline
from .base import Family


_FAMILIES: list[Family] = []


def register_family(family: Family) -> None:
    """Teach `attach` a kind of pipeline. A family registered later wins over an earlier one of the same class name."""
    _FAMILIES.insert(0, family)


def known_pipelines() -> list[str]:
    """Class names of all pipelines that have a family, sorted."""
    return sorted({name for family in _FAMILIES for name in family.pipelines})


def registered_family(pipe: Pipeline) -> Family | None:
    """The family of `pipe`, by the names of its class and its base classes, the nearest first; None without one.

    Raises:
        ValueError: a modular pipeline, which takes callbacks as its guider.
    """
    for cls in type(pipe).__mro__:
        if cls.__name__ == "ModularPipeline":
            raise ValueError(
                f"{type(pipe).__name__} is a modular pipeline, which takes callbacks as its guider: "
                "pipe.update_components(guider=diffusion_guidance.CallbackGuider(callbacks))"
            )
        for family in _FAMILIES:
            if cls.__name__ in family.pipelines:
                return family
    return None


def is_inherited(family: Family, pipe: Pipeline) -> bool:
    """Whether `family` is registered for a base class of `pipe` alone: a derived class can do otherwise."""
    return type(pipe).__name__ not in family.pipelines and family is registered_family(pipe)


def find_family(pipe: Pipeline) -> Family:
    """As `registered_family`.

    Raises:
        ValueError: none fits; the message lists the known ones and says how to register one. A modular pipeline.
    """
    family = registered_family(pipe)
    if family is not None:
        return family
    known = ", ".join(known_pipelines())
    raise ValueError(f"no family is registered for {type(pipe).__name__}; see register_family. There are {known}")
