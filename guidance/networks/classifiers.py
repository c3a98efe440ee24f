"""Classifiers by name, in one string that a JSON file can hold: torchvision, timm, open_clip, or any `from_pretrained`.

torchvision:resnet50                          the library's own best weights (downloaded)
torchvision:resnet50:IMAGENET1K_V1            weights by their name there
torchvision:resnet50:weights.safetensors      weights in a local file
timm:vit_tiny_patch16_224                     the same, for any timm model
timm:vit_tiny_patch16_224:weights.safetensors
open_clip:ViT-B-32:openai                     zero-shot, with `classes`; a tag, or a local safetensors file
pretrained:transformers.ViTForImageClassification:FOLDER
                                              a class of transformers or diffusers, by its name at their top level
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import diffusers
import torch
import transformers
from torch import nn

from .image_classifier import ImageClassifier, Normalise
from .weights import check_weights, read_weights, with_weights
from .zero_shot import ZeroShot, class_embeddings


#: What each library's constructor may be given, and the kind of value: numbers, nothing that names a file.
ARGUMENTS: dict[str, dict[str, type]] = {
    "torchvision": {"num_classes": int},
    "timm": {"num_classes": int, "img_size": int, "in_chans": int},
    "open_clip": {},
    "pretrained": {},
}


def load_classifier(
    spec: str,
    transform: str | Callable[[torch.Tensor], torch.Tensor] | None = None,
    size: int | None = None,
    *,
    classes: Sequence[str] = (),
    templates: Sequence[str] = ("{}",),
    device: str | torch.device = "cpu",
    **arguments,
) -> ImageClassifier:
    """The classifier that `spec` names, in eval mode, in float32, its parameters frozen.

    Args:
        spec: LIBRARY:NAME or LIBRARY:NAME:WEIGHTS, see the head of this file. Weights in a file must be safetensors.
        transform, size: see `ImageClassifier`; None for the classifier's own. Those of `pretrained:` are "authors" (as
            the pictures are, in [-1, 1]) and no resize.
        classes, templates: of an open_clip model; see `class_embeddings`. Text is embedded once, here.
        device: where the classifier goes.
        arguments: more for the library's own constructor: only those in `ARGUMENTS`, since a classifier may be written
            in a file, and a constructor's other arguments can make it unpickle or run what the file names. A network
            that needs more is built in Python and passed to `ImageClassifier`.

    Raises:
        ValueError: another library or argument, a name or weights that cannot be found or do not fit, or classes
            missing.
    """
    library, _, rest = spec.partition(":")
    name, _, weights = rest.partition(":")
    loaders = {"torchvision": _torchvision, "timm": _timm, "open_clip": _open_clip, "pretrained": _pretrained}
    if library not in loaders or not name:
        raise ValueError(f"a classifier is written LIBRARY:NAME[:WEIGHTS] with {', '.join(loaders)}, got {spec!r}")
    if unknown := set(arguments) - ARGUMENTS[library].keys():
        allowed = ", ".join(ARGUMENTS[library]) or "none"
        raise ValueError(
            f"{', '.join(sorted(unknown))}: not an argument that a {library} classifier takes (allowed: {allowed}); "
            "build the network in Python and pass ImageClassifier(network)"
        )
    for key, value in arguments.items():
        if not isinstance(value, ARGUMENTS[library][key]) or isinstance(value, bool):
            raise ValueError(f"{key} of a {library} classifier is a number, got {value!r}")
    if library == "open_clip":
        arguments |= {"classes": classes, "templates": templates}
    elif classes:
        raise ValueError(f"classes are for open_clip models; those of {spec} are fixed")
    module, own_transform, own_size = with_weights(spec, lambda: loaders[library](name, weights, **arguments))
    module = module.float().eval().requires_grad_(False).to(device)
    return ImageClassifier(module, transform or own_transform, size or own_size, channels=None, name=spec).to(device)


def _torchvision(name: str, weights: str, **arguments) -> tuple[nn.Module, str, int | None]:
    from torchvision import models  # lazy: slow to import

    known = models.get_model_weights(name)
    entry = known.DEFAULT if weights in ("", "DEFAULT") else getattr(known, weights, None)
    if entry is not None:
        # Never `weights=` of the constructor: torchvision would unpickle the whole file.
        state = entry.get_state_dict(progress=False, check_hash=True, weights_only=True)
        arguments.setdefault("num_classes", len(entry.meta["categories"]))
    else:
        state = read_weights(Path(weights))
    if "inception" in name or name == "googlenet":
        # As torchvision sets them for its weights: auxiliary heads, which are part of the file and idle in eval mode,
        # and an input that the network itself takes from ImageNet's mean and standard deviation to its own.
        arguments = {"init_weights": False, "aux_logits": True, "transform_input": True} | arguments
    module = models.get_model(name, weights=None, **arguments)
    module.load_state_dict(state)
    return module, "imagenet", getattr((entry or known.DEFAULT).transforms(), "crop_size", [None])[0]


def _timm(name: str, weights: str, **arguments) -> tuple[nn.Module, Normalise, int]:
    import timm  # lazy: slow to import

    module = timm.create_model(name, pretrained=not weights, **arguments)
    if weights:
        module.load_state_dict(read_weights(Path(weights)))
    config = timm.data.resolve_model_data_config(module)
    size = arguments.get("img_size", config["input_size"][-1])
    return module, Normalise(config["mean"], config["std"]), size


def _open_clip(name: str, weights: str, classes, templates, **arguments) -> tuple[nn.Module, Normalise, int]:
    import open_clip  # lazy: slow to import

    if not weights:
        raise ValueError("open_clip has several weights for a model; name one of its tags, or a safetensors file")
    if weights not in open_clip.list_pretrained_tags_by_model(name):
        check_weights(Path(weights))
    model = open_clip.create_model(name, pretrained=weights, **arguments).eval()
    tokenizer = open_clip.get_tokenizer(name)
    with torch.no_grad():
        embeddings = class_embeddings(lambda texts: model.encode_text(tokenizer(texts)), classes, templates)
        scale = float(model.logit_scale.exp())
    config = open_clip.get_model_preprocess_cfg(model)
    size = config["size"][0] if isinstance(config["size"], tuple | list) else config["size"]
    transform = Normalise(config["mean"], config["std"])
    return ZeroShot(model.visual, embeddings, scale), transform, size


def _pretrained(name: str, folder: str) -> tuple[nn.Module, str, None]:
    cls = _known_class(name)
    # transformers asks on the terminal whether to run code from the folder, unless told not to.
    safe = {"trust_remote_code": False} if cls.__module__.startswith("transformers.") else {}
    return cls.from_pretrained(folder, use_safetensors=True, **safe), "authors", None


def _known_class(name: str) -> type:
    """The class called `name`, in a closed set: nothing is imported because a string, or a file, names it.

    Raises:
        ValueError: not one of the classes of transformers, of diffusers, or of the shipped worlds.
    """
    library, _, kind = name.partition(".")
    if kind.isidentifier() and library in ("transformers", "diffusers"):
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
