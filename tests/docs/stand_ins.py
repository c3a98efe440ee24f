"""What the documents' examples run with: tiny networks in place of those that would be downloaded."""

import inspect
import zlib
from collections.abc import Callable
from functools import wraps

import torch
from diffusers import DiffusionPipeline
from torch import nn

from diffusion_guidance import ImageClassifier
from diffusion_guidance.networks.encoders import Encoder, load_encoder, random_encoder
from diffusion_guidance.networks.loading import check_arguments, parse
from tests.tiny_families import FAMILIES


STEPS = 3  # of every call, whatever the example asks for
TINY = {tiny.name: tiny for tiny in FAMILIES}
#: Repository on the Hub -> its family.
MODELS = {
    "stabilityai/stable-diffusion-xl-base-1.0": "StableDiffusionXL",
    "stabilityai/stable-diffusion-3.5-large": "StableDiffusion3",
    "black-forest-labs/FLUX.1-dev": "Flux",
    "Qwen/Qwen-Image": "QwenImage",
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": "Wan 2.1",
    "facebook/DiT-XL-2-256": "DiT",
}
_from_pretrained, _to = DiffusionPipeline.from_pretrained.__func__, DiffusionPipeline.to


def from_pretrained(cls: type, name: str, **kwargs: object) -> DiffusionPipeline:
    """As diffusers', except for `MODELS`."""
    if name in MODELS:
        return tiny(MODELS[name])
    parts = cls.load_config(name).items()
    absent = {part: None for part, kind in parts if isinstance(kind, list) and kind[:2] == [None, None]}
    return _from_pretrained(cls, name, **absent | kwargs)


def to(pipe: DiffusionPipeline, *where: object, **kwargs: object) -> DiffusionPipeline:
    return pipe if where == ("cuda",) else _to(pipe, *where, **kwargs)


def tiny(name: str) -> DiffusionPipeline:
    """A tiny pipeline of the family `name`, which encodes any prompt, and takes few steps."""
    pipe, inputs = TINY[name].pipe(), TINY[name].inputs()
    if hasattr(pipe, "encode_prompt"):
        pipe.encode_prompt = _encoding(pipe.encode_prompt, inputs)
    fixed = {name: inputs[name] for name in ("height", "width", "num_frames") if name in inputs}
    if name.startswith("Wan"):
        fixed["output_type"] = "pt"
    return short(pipe, **fixed)


def short(pipe: DiffusionPipeline, **fixed: object) -> DiffusionPipeline:
    """`pipe`, whose calls take few steps, and `fixed`."""
    kind = type(pipe)

    @wraps(kind.__call__)
    def call(self, *args, **kwargs):
        kwargs["num_inference_steps"] = min(kwargs.get("num_inference_steps", STEPS), STEPS)
        return kind.__call__(self, *(() if "prompt" in fixed else args), **kwargs | fixed)

    pipe.__class__ = type(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
    return pipe


def _encoding(original: Callable, inputs: dict) -> Callable:
    """`encode_prompt` without text encoders: embeddings that follow from the text."""
    signature = inspect.signature(original)
    shapes = {name: value for name, value in inputs.items() if name in signature.parameters and torch.is_tensor(value)}

    @wraps(original)
    def encode_prompt(*args, **kwargs):
        given = signature.bind(*args, **kwargs).arguments
        prompts = given.get("prompt")
        if prompts is None or given.get("prompt_embeds") is not None:
            return original(*args, **kwargs)
        prompts = [prompts] if isinstance(prompts, str) else prompts
        for name, value in shapes.items():
            text = str(given.get("negative_prompt") if name.startswith("negative") else prompts)
            generator = torch.Generator().manual_seed(zlib.crc32((name + text).encode()))
            value = value[:1].expand(len(prompts), *value.shape[1:])
            given[name] = torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
        given["prompt"] = None
        return original(**given)

    return encode_prompt


def classifier(spec: str, transform: object = None, size: int | None = None, **arguments: object) -> ImageClassifier:
    """As `load_classifier`, which reads `spec` and `arguments` in the same way; the network is a tiny one."""
    classes = arguments.pop("classes", ())
    arguments.pop("templates", None)
    check_arguments(parse(spec, "logits", "classifier")[0], arguments)
    return ImageClassifier(network(len(classes) or arguments.get("num_classes", 1000)))


def network(classes: int = 1000) -> nn.Module:
    """Images (B, C, H, W) to logits."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.ReLU(), nn.Linear(12, classes)).eval()


def encoder(spec: str, **arguments: object) -> Encoder:
    """As `load_encoder`, without a download."""
    return random_encoder("vit_tiny_patch16_224", size=32) if spec.startswith("timm:") else load_encoder(spec)
