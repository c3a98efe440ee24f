"""The modular counterpart of a tiny pipeline: the same components, without the text encoders and the decoder."""

import diffusers
import torch

from .tiny_families import FAMILIES, Tiny


TINY = {tiny.name: tiny for tiny in FAMILIES}

#: Families that diffusers has in both forms, and the blocks of the modular one.
BLOCKS = {
    "StableDiffusion3": "StableDiffusion3AutoBlocks",
    "StableDiffusionXL": "StableDiffusionXLAutoBlocks",
    "QwenImage": "QwenImageAutoBlocks",
    "Wan 2.1": "WanBlocks",
    "Wan 2.2": "Wan22Blocks",
}


def modular(name: str, pipe, guider) -> diffusers.ModularPipeline:
    """A modular pipeline with the components, and so the weights, of `pipe`, and `guider` for each network."""
    blocks = getattr(diffusers, BLOCKS[name])()
    for block in ("text_encoder", "decode"):
        blocks.sub_blocks.pop(block, None)
    other = blocks.init_pipeline()
    shared = {key: part for key, part in pipe.components.items() if key in other.component_names and part is not None}
    guiders = {key: guider for key in other.component_names if key.startswith("guider")}
    options = {"boundary_ratio": pipe.config.boundary_ratio} if name == "Wan 2.2" else {}
    other.update_components(**shared | guiders | options)
    other.set_progress_bar_config(disable=True)
    return other


def draw(tiny: Tiny, pipe, steps: int = 3, **kwargs) -> torch.Tensor:
    """Latents of the standard pipeline, from noise that both forms are given."""
    return tiny.draw(pipe, steps=steps, **_noise(tiny), **kwargs)


def draw_modular(tiny: Tiny, pipe, steps: int = 3) -> torch.Tensor:
    """Latents of the modular pipeline, in the shape that the standard one gives."""
    dtype = next((pipe.unet if tiny.name == "StableDiffusionXL" else pipe.transformer).parameters()).dtype
    inputs = {**tiny.inputs(), **_noise(tiny)}
    inputs = {key: value.to(dtype) if _is_float(value) else value for key, value in inputs.items()}
    generator = torch.Generator().manual_seed(1)
    latents = pipe(**inputs, num_inference_steps=steps, generator=generator, output="latents")
    if tiny.name != "QwenImage":
        return latents
    batch, channels, _, height, width = latents.shape
    return diffusers.QwenImagePipeline._pack_latents(latents, batch, channels, height, width)


def _noise(tiny: Tiny) -> dict:
    if not tiny.name.startswith("Wan"):
        return {}
    # The modular Wan takes the number of channels from an autoencoder, which is not there.
    return {"latents": torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(1))}


def _is_float(value) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()
