"""Classifiers by name: `load_classifier` reads a string of `loading`, which a JSON file can hold."""

from collections.abc import Callable, Mapping, Sequence

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
    **arguments,
) -> ImageClassifier:
    """The classifier that `spec` names, in eval mode, in float32, its parameters frozen.

    Args:
        spec: LIBRARY:NAME or LIBRARY:NAME:WEIGHTS, see the head of loading.py. Weights in a file must be safetensors.
            Of open_clip models it is zero-shot, with `classes`.
        transform, size: see `ImageClassifier`; None for the classifier's own. For `pretrained:` these are "authors" (as
            the images are, in [-1, 1]) and no resize.
        classes, templates: of an open_clip model; see `class_embeddings`. Text is embedded once, here.
        device: where the classifier goes.
        arguments: more for the library's own constructor: only those in `loading.ARGUMENTS`, since a classifier may be
            written in a file, and a constructor's other arguments can make it unpickle or run what the file names. A
            network that needs more is built in Python and passed to `ImageClassifier`.

    Raises:
        ValueError: another library or argument, a name or weights that cannot be found or do not fit, or classes
            missing.
    """
    library, _, _ = parse(spec, "logits", "classifier")
    check_arguments(library, arguments)
    if library == "open_clip":
        arguments |= {"classes": classes, "templates": templates}
    elif classes:
        raise ValueError(f"classes are for open_clip models; those of {spec} are fixed")
    parts = load(spec, "logits", "classifier", **arguments)
    own, own_size = _signed(parts.transform)
    module = parts.module.float().to(device)
    return ImageClassifier(module, transform or own, size or own_size, channels=None, name=spec).to(device)


def classifier_of(given: Callable | str | Mapping) -> Callable:
    """`given`, or the classifier that it names: a `spec`, or the arguments of `load_classifier` by name."""
    if isinstance(given, str):
        return load_classifier(given)
    return load_classifier(**given) if isinstance(given, Mapping) else given


def _signed(transform: Transform | str) -> tuple[str | Normalise, int | None]:
    """(transform, size) of `ImageClassifier` for a transform of images in [0, 1]."""
    if isinstance(transform, str):
        return transform, None
    statistics = (transform.mean, transform.std)
    return "imagenet" if statistics == IMAGENET else Normalise(*statistics), transform.size
