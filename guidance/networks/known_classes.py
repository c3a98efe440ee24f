"""Classes of networks by name, from a closed set: nothing is imported because a string, or a file, names it."""

from typing import TYPE_CHECKING

from torch import nn


if TYPE_CHECKING:
    from diffusers import ModelMixin
    from transformers import PreTrainedModel


def known_class(name: str) -> "type[ModelMixin | PreTrainedModel]":
    """The class called `name`: `transformers.CLASS`, `diffusers.CLASS`, or one of the shipped worlds.

    Raises:
        ValueError: another name.
    """
    library, _, kind = name.partition(".")
    if kind.isidentifier() and library in ("transformers", "diffusers"):
        import diffusers  # lazy: slow to import, both
        import transformers

        cls = getattr({"transformers": transformers, "diffusers": diffusers}[library], kind, None)
    else:
        from .. import worlds  # lazy: they import from here

        own = {each.__name__: each for each in (worlds.DigitsClassifier, worlds.ShapesClassifier)}
        # Files of earlier versions name the package `guidance`, and the module.
        of_worlds = name.startswith(("diffusion_guidance.worlds.", "guidance.worlds."))
        cls = own.get(name.rpartition(".")[2]) if of_worlds else None
    if not (isinstance(cls, type) and issubclass(cls, nn.Module) and hasattr(cls, "from_pretrained")):
        raise ValueError(
            f"{name} is not a class of networks in transformers or diffusers (written transformers.CLASS); "
            "load any other network in Python and pass ImageClassifier(network)"
        )
    return cls
