"""Pipelines of the real diffusers classes with random weights, of any size, without text encoders, to be timed."""

from collections.abc import Callable
from dataclasses import dataclass

import diffusers
import torch


@dataclass(frozen=True)
class Size:
    """Of the networks: number of blocks, attention heads of 64 channels, and latent pixels along each side."""

    layers: int
    heads: int
    side: int


SIZES = {"tiny": Size(1, 1, 8), "small": Size(4, 4, 32), "large": Size(12, 12, 64)}


@dataclass(frozen=True)
class Bench:
    """A family to measure.

    Attributes:
        build: makes the pipeline, without text encoders and autoencoder.
        inputs: arguments of its call that replace them.
        blocks: name of the blocks of its modular counterpart, or None.
        batched: whether the standard pipeline makes one call of both halves a step.
        packed: whether latents are (B, tokens, channels), where MagnitudeAwareGuidance runs.
    """

    build: Callable[[Size], diffusers.DiffusionPipeline]
    inputs: Callable[[Size], dict]
    blocks: str | None
    batched: bool
    packed: bool = False


def stable_diffusion_3(size: Size) -> diffusers.DiffusionPipeline:
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=size.side,
        in_channels=16,
        out_channels=16,
        num_layers=size.layers,
        num_attention_heads=size.heads,
        attention_head_dim=64,
        caption_projection_dim=64 * size.heads,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        pos_embed_max_size=size.side,
    )
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return diffusers.StableDiffusion3Pipeline(transformer, scheduler, *[None] * 7)


def stable_diffusion_xl(size: Size) -> diffusers.DiffusionPipeline:
    width = 32 * size.heads  # half of the others: a U-Net works at the full resolution, so a step takes longer
    unet = diffusers.UNet2DConditionModel(
        sample_size=size.side,
        block_out_channels=(width, 2 * width),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        transformer_layers_per_block=size.layers,
        attention_head_dim=(size.heads, 2 * size.heads),
        cross_attention_dim=64,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=64 + 6 * 32,
        use_linear_projection=True,
    )
    scheduler = diffusers.EulerDiscreteScheduler()
    # The call reads its scale: 8 pixels a latent pixel, as in the published one.
    vae = diffusers.AutoencoderKL(block_out_channels=(32,) * 4, **_blocks(4))
    return diffusers.StableDiffusionXLPipeline(vae, None, None, None, None, unet, scheduler)


def _blocks(levels: int) -> dict:
    return {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}


def qwen_image(size: Size) -> diffusers.DiffusionPipeline:
    transformer = diffusers.QwenImageTransformer2DModel(
        in_channels=64,
        out_channels=16,
        num_layers=size.layers,
        num_attention_heads=size.heads,
        attention_head_dim=64,
        joint_attention_dim=64,
        axes_dims_rope=(16, 24, 24),
    )
    return diffusers.QwenImagePipeline(diffusers.FlowMatchEulerDiscreteScheduler(), None, None, None, transformer)


def wan(size: Size) -> diffusers.DiffusionPipeline:
    transformer = diffusers.WanTransformer3DModel(
        num_layers=size.layers,
        num_attention_heads=size.heads,
        attention_head_dim=64,
        ffn_dim=256 * size.heads,
        text_dim=64,
        freq_dim=64,
    )
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return diffusers.WanPipeline(None, None, None, scheduler, transformer)


def flux(size: Size) -> diffusers.DiffusionPipeline:
    transformer = diffusers.FluxTransformer2DModel(
        in_channels=64,
        num_layers=size.layers,
        num_single_layers=size.layers,
        num_attention_heads=size.heads,
        attention_head_dim=64,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        axes_dims_rope=(16, 24, 24),
    )
    return diffusers.FluxPipeline(diffusers.FlowMatchEulerDiscreteScheduler(), *[None] * 5, transformer)


def _text(size: Size, latents: tuple[int, ...], *, pooled: bool = False, masked: bool = False) -> dict:
    """Embeddings of two prompts and of none, and noise; of 8 pixels a latent pixel."""
    given = {"height": 8 * size.side, "width": 8 * size.side, "latents": torch.randn(2, *latents)}
    for prefix in ("", "negative_"):
        given[f"{prefix}prompt_embeds"] = torch.randn(2, 16, 64)
        if pooled:
            given[f"{prefix}pooled_prompt_embeds"] = torch.randn(2, 64)
        if masked:
            given[f"{prefix}prompt_embeds_mask"] = torch.ones(2, 16, dtype=torch.long)
    return given


BENCHES = {
    "StableDiffusion3": Bench(
        stable_diffusion_3,
        lambda size: _text(size, (16, size.side, size.side), pooled=True) | {"guidance_scale": 5.0},
        "StableDiffusion3AutoBlocks",
        batched=True,
    ),
    "StableDiffusionXL": Bench(
        stable_diffusion_xl,
        lambda size: _text(size, (4, size.side, size.side), pooled=True) | {"guidance_scale": 5.0},
        "StableDiffusionXLAutoBlocks",
        batched=True,
    ),
    "QwenImage": Bench(
        qwen_image,
        lambda size: _text(size, (size.side**2 // 4, 64), masked=True) | {"true_cfg_scale": 5.0},
        "QwenImageAutoBlocks",
        batched=False,
        packed=True,
    ),
    "Flux": Bench(
        flux,
        lambda size: _text(size, (size.side**2 // 4, 64), pooled=True) | {"true_cfg_scale": 5.0},
        None,
        batched=False,
        packed=True,
    ),
    "Wan": Bench(
        wan,
        lambda size: _text(size, (16, 2, size.side, size.side)) | {"num_frames": 5, "guidance_scale": 5.0},
        "WanBlocks",
        batched=False,
    ),
}
