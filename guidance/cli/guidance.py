"""Parse --guidance: a callback of this package, a guider of diffusers, or a class of the user's own."""

import inspect
from pathlib import Path

from ..core.callback import Callback
from ..core.configuration import load_guidance, parse_guidance
from ..core.groups import grouped
from ..core.kinds import find_kind, folded
from ..core.short_form import parse_arguments
from ..core.user_code import from_module


OWN = "none"  # the pipeline's own guidance


def parse(text: str) -> Callback:
    """One callback: `raag:w_max=18`, `AdaptiveProjectedGuidance:guidance_scale=5`, or `package.module:Class:share=0.5`.

    Raises:
        ValueError: an unknown name or argument, a value out of range, or a module or class that is not there.
    """
    name, _, rest = text.partition(":")
    first = rest.partition(":")[0]
    if rest and "=" not in first and find_kind(name.strip()) is None:  # an argument has a `=`: this is a class
        return _own(name.strip(), first.strip(), rest[len(first) + 1 :])
    if (guider := _guider(name.strip())) is not None:
        return _guided(guider, parse_arguments(rest))
    return parse_guidance(text)


def parse_method(text: str) -> list[Callback]:
    """A row of a comparison or sweep: callbacks separated by blanks, a .json file of them, or `none`."""
    if text.endswith(".json"):
        return load(Path(text))
    return [] if text == OWN else [parse(part) for part in text.split() or [""]]


def load(file: Path) -> list[Callback]:
    """The callbacks of a file that `save_guidance` wrote. Raises ValueError that names the file."""
    try:
        return load_guidance(file)
    except ValueError as error:
        raise ValueError(str(error) if str(file) in str(error) else f"{file}: {error}") from None


def _own(module: str, name: str, rest: str) -> Callback:
    """A callback class from a module that the command line names; the working directory is searched last."""
    found = from_module(module, name, "--guidance")
    if not (inspect.isclass(found) and issubclass(found, Callback)):
        raise ValueError(f"--guidance: {module}:{name} is not a subclass of diffusion_guidance.Callback")
    try:
        return found(**grouped(found, parse_arguments(rest)))
    except TypeError as error:
        raise ValueError(f"--guidance {module}:{name}: {error}") from None


def _guider(name: str) -> str | None:
    """The name of a guider of diffusers, given as `find_kind` takes names, or None."""
    name = folded(name)
    if not name.endswith("guidance"):
        return None  # diffusers.guiders is slow to import, and all of its guiders are called so
    import diffusers.guiders

    kinds = {known.lower(): known for known, kind in vars(diffusers.guiders).items() if inspect.isclass(kind)}
    return None if name == "baseguidance" else kinds.get(name)


def _guided(name: str, arguments: dict[str, object]) -> Callback:
    from ..attachment.guiders import GuiderCallback

    try:
        return GuiderCallback({"_class_name": name, **arguments})
    except TypeError as error:
        raise ValueError(f"--guidance {name}: {error}") from None
