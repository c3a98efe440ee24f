"""Classifiers by name: `load_classifier` reads a string of `loading`, which a JSON file can hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from .image_classifier import ImageClassifier
from .loading import check_arguments, load, parse
from .preprocessing import IMAGENET, Normalise, Transform


def load_classifier(
    spec: str,
    transform: str | Callable[[torch.Tensor], torch.Tensor] | None = None,
    size: int | None = None,
    *,
    classes: Sequence[str] = (),
    templates: Sequence[str] = ("{}",),
    device: str | torch.device = "cpu",
    **arguments: Any,
) -> ImageClassifier:
    """The classifier that `spec` names, in eval mode, in float32, its parameters frozen.

    Args:
        spec: LIBRARY:NAME or LIBRARY:NAME:WEIGHTS, see the head of loading.py. Weights in a file must be safetensors.
            open_clip models are zero-shot, with `classes`.
        transform, size: see `ImageClassifier`; None for the classifier's own. For `pretrained:` these are "authors" (as
            the images are, in [-1, 1]) and no resize.
        classes, templates: of an open_clip model; see `class_embeddings`. Text is embedded once, here.
        device: where the classifier goes.
        arguments: further arguments of the library's constructor, of those in `loading.ARGUMENTS` only: a file may
            name a classifier, and other arguments can make a constructor unpickle or run what the file names. Build a
            network that needs more in Python and pass it to `ImageClassifier`.

    Raises:
        ValueError: another library or argument, a name or weights that cannot be found or do not fit, or classes
            missing.
    """
    library, _, _ = parse(spec, "logits", "classifier")
    check_arguments(library, arguments)
    if library == "open_clip":
        arguments |= {"classes": classes, "templates": templates}
    elif classes:
        raise ValueError(f"classes are for open_clip models; the classes of {spec} are fixed")
    parts = load(spec, "logits", "classifier", **arguments)
    own, own_size = _signed(parts.transform)
    module = parts.held.float().to(device)
    return ImageClassifier(module, transform or own, size or own_size, channels=None, name=spec).to(device)


def classifier_of(given: Callable | str | Mapping) -> Callable:
    """`given`, or the classifier that it names: a `spec`, or the arguments of `load_classifier` by name."""
    if isinstance(given, str):
        return load_classifier(given)
    return load_classifier(**given) if isinstance(given, Mapping) else given


def _signed(transform: Callable) -> tuple[str | Normalise, int | None]:
    """(transform, size) of `ImageClassifier` for a transform of images in [0, 1], or for `unchanged`."""
    if not isinstance(transform, Transform):
        return "authors", None
    statistics = (transform.mean, transform.std)
    return "imagenet" if statistics == IMAGENET else Normalise(*statistics), transform.size
