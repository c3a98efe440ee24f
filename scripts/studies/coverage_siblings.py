"""Build a pipeline class that has no dummy components from those of a class that is built alike."""

import inspect
from collections.abc import Callable

import diffusers
import torch
from PIL import Image


_SIZE = 32


def components(kind: type, given: dict) -> dict:
    """Arguments to make a pipeline of `kind` from the dummy components `given` of a similar one.

    Raises:
        LookupError: an argument is neither among them, nor optional, nor one of those that can be made here.
    """
    found = {}
    for name, parameter in _parameters(kind.__init__).items():
        made = _maker(parameter.annotation, given)
        if name in given and not (made and type(given[name]).__name__ not in str(parameter.annotation)):
            found[name] = given[name]
        elif made:
            found[name] = made()
        elif parameter.default is inspect.Parameter.empty:
            raise LookupError(f"no tiny {parameter.annotation} for {name!r} of {kind.__name__}")
    return found


def _maker(annotation: object, given: dict) -> Callable | None:
    """What makes a component of the class in `annotation`, where the sibling's is of another."""
    makers = {
        "ControlNetUnionModel": lambda: diffusers.ControlNetUnionModel.from_unet(
            given["unet"], conditioning_embedding_out_channels=(16, 32)
        ),
    }
    return next((make for name, make in makers.items() if name in str(annotation)), None)


def inputs(call: Callable, given: dict) -> dict:
    """The arguments among `given` that `call` takes, and images where it wants some."""
    parameters = _parameters(call)
    found = {name: value for name, value in given.items() if name in parameters}
    size = {"height": given.get("height") or _SIZE, "width": given.get("width") or _SIZE}
    for name, parameter in parameters.items():
        make = _INPUTS.get(name)
        if make and name not in found and parameter.default in (inspect.Parameter.empty, None):
            found[name] = make(size["width"], size["height"])
    return found


def _image(width: int, height: int) -> Image.Image:
    pixels = torch.rand(height, width, 3, generator=torch.Generator().manual_seed(3)).mul(255).byte()
    return Image.fromarray(pixels.numpy())


def _mask(width: int, height: int) -> Image.Image:
    pixels = torch.zeros(height, width, dtype=torch.uint8)
    pixels[: height // 2] = 255
    return Image.fromarray(pixels.numpy())


def _video(width: int, height: int) -> list[Image.Image]:
    return [_image(width, height)] * 9


_INPUTS = {
    "image": _image,
    "mask_image": _mask,
    "control_image": _image,
    "video": _video,
    "control_video": _video,
    "mask_video": lambda width, height: [_mask(width, height)] * 9,
    "strength": lambda width, height: 1.0,
    "control_mode": lambda width, height: 0,
}


def _parameters(function: Callable) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    return {name: each for name, each in parameters.items() if name not in ("self", "args", "kwargs")}
