"""What a reader of a document has at hand before each of its blocks: page -> number of the block -> names."""

from collections.abc import Callable

import diffusers
import torch
from diffusers.guiders import ClassifierFreeGuidance
from diffusers.modular_pipelines import ComponentSpec

from diffusion_guidance import NAG, ImageClassifier, assets_folder, attach, load_pipeline
from diffusion_guidance.pipelines import GuidedWanPipeline
from tests.modular import modular
from tests.tiny_families.image import unet

from .stand_ins import TINY, network, short, tiny


PROMPT = "a red circle at the top left and a blue star at the bottom right on a dark background"


def _images(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def _instruct() -> dict:
    parts = TINY["StableDiffusion"].build().components | {"unet": unet(in_channels=8)}
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline(**parts, requires_safety_checker=False)
    inputs = TINY["StableDiffusion"].inputs()
    embeds = {name: value[:1] for name, value in inputs.items() if name.endswith("embeds")}
    return {"attach": attach, "photo": _images(1), "pipe": short(pipe, prompt=None, **embeds)}


def _modular() -> dict:
    pipe = modular("StableDiffusion3", TINY["StableDiffusion3"].pipe(), ClassifierFreeGuidance())
    return {"pipe": pipe, "folder": "modular", "ModularPipeline": diffusers.ModularPipeline}


def _saved() -> dict:
    name = str(assets_folder() / "shapes")
    return {"folder_or_hub_id": name, "folder": "copy", "loaded": load_pipeline(name), "prompt": PROMPT}


def _weights() -> dict:
    torch.save({"weight": torch.ones(2)}, "weights-inception-2015-12-05-6726825d.pth")
    return {}


def _wan() -> dict:
    GuidedWanPipeline(**TINY["Wan 2.1"].pipe().components).save_pretrained("wan")
    return {"folder": "wan"}


PRESETS: dict[str, dict[int, Callable[[], dict]]] = {
    "calibration": {
        0: lambda: {"my_network": network()},
        1: lambda: {"attach": attach, "pipe": tiny("StableDiffusion3")},
        2: lambda: {"guide": _Guide(), "pipe": tiny("DiT"), "batches": [[0, 1]]},
    },
    "detect": {0: lambda: {"real_images": _images(4), "generated_images": _images(4) ** 2}},
    "diffier": {0: lambda: {"pipe": tiny("StableDiffusion3"), "prompt": "a cat"}},
    "elucd": {
        0: lambda: {
            "pipe": tiny("StableDiffusion3"),
            "dit": tiny("DiT"),
            "resnet": network(),
            "tiny_autoencoder": diffusers.AutoencoderTiny(
                encoder_block_out_channels=(8, 8),
                decoder_block_out_channels=(8, 8),
                num_encoder_blocks=(1, 1),
                num_decoder_blocks=(1, 1),
            ).eval(),
        }
    },
    "evaluation": {0: _weights},
    "families": {0: _instruct},
    "guiders": {
        0: lambda: {"pipe": tiny("StableDiffusion3"), "prompt": "a cat"},
        1: _modular,
        2: lambda: {"guider": ClassifierFreeGuidance(), "ComponentSpec": ComponentSpec},
    },
    "methods": {0: lambda: {"attach": attach, "NAG": NAG, "pipe": tiny("StableDiffusionXL")}},
    "pipelines": {0: _saved, 1: _wan},
    "rigid": {
        0: lambda: {
            "pipe": tiny("StableDiffusion3"),
            "images": _images(2),
            "batches_of_real_images": [_images(80)],
        }
    },
}


class _Guide:
    """What the block of the page needs of a callback."""

    classifier = ImageClassifier(network())
