"""Tiny components for a pipeline class that has none, from those of a class that is built alike."""

import inspect
from collections.abc import Callable

import diffusers
import torch
import transformers
from PIL import Image

from . import coverage_upstream


_SIZE = 32
_WIDER = ("CogView4ControlPipeline", "LucyEditPipeline")  # the network is given an image, or a video, as channels


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
    network = found.get("transformer")
    if kind.__name__ in _WIDER:
        out = network.config.get("out_channels") or network.config.in_channels
        changes = {"in_channels": 2 * network.config.in_channels, "out_channels": out}
        found["transformer"] = type(network).from_config(dict(network.config) | changes)
    if kind.__name__ == "ChromaInpaintPipeline":
        network.register_to_config(guidance_embeds=False)  # read, and nowhere set but in checkpoints
    return found


def _maker(annotation: object, given: dict) -> Callable | None:
    """What makes a component of the class in `annotation`, where the sibling's is of another."""
    makers = {
        "ControlNetUnionModel": lambda: _union(given["controlnet" if "controlnet" in given else "unet"]),
        "controlnet.ControlNetModel": lambda: diffusers.ControlNetModel.from_unet(
            given["unet"], conditioning_embedding_out_channels=(16, 32)
        ),
        "SiglipVisionModel": lambda: coverage_upstream.siglip(given["transformer"].config.get("image_embed_dim", 32)),
        "SiglipImageProcessor": lambda: transformers.SiglipImageProcessor.from_pretrained(""),
    }
    return next((make for name, make in makers.items() if name in str(annotation)), None)


def _union(like: torch.nn.Module) -> diffusers.ControlNetUnionModel:
    """A network of no zero layers: they would hide what it is given."""
    known = inspect.signature(diffusers.ControlNetUnionModel.__init__).parameters
    config = {name: value for name, value in like.config.items() if name in known}
    size = config["block_out_channels"][0]
    network = diffusers.ControlNetUnionModel(**config | {"num_trans_channel": size, "num_trans_head": 2})
    network.spatial_ch_projs = torch.nn.Linear(size, size)  # 320 whatever the configuration
    return network


def inputs(call: Callable, given: dict, more: tuple[str, ...] = ()) -> dict:
    """The arguments among `given` that `call` takes, and those images that it needs, or that `more` names."""
    parameters = _parameters(call)
    found = {name: value for name, value in given.items() if name in parameters}
    for name, parameter in parameters.items():
        needed = parameter.default is inspect.Parameter.empty or name in more
        if needed and name in _INPUTS and name not in found:
            found[name] = _INPUTS[name](given.get("width") or _SIZE, given.get("height") or _SIZE)
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
    "img": _image,
    "inner_image": _image,
    "mask_image": _mask,
    "control_image": _image,
    "video": _video,
    "control_video": _video,
    "mask_video": lambda width, height: [_mask(width, height)] * 9,
    "strength": lambda width, height: 1.0,
    "control_mode": lambda width, height: 0,
}


IMAGES = ("image", "mask_image", "control_image", "control_mode")
VIDEOS = ("video", "control_video", "mask_video")


def _parameters(function: Callable) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(function).parameters
    return {name: each for name, each in parameters.items() if name not in ("self", "args", "kwargs")}
