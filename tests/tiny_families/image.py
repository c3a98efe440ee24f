"""Tiny image pipelines, one a family."""

import diffusers
import torch

from .base import Tiny, embeddings, randn


def autoencoder(channels: int = 4, levels: int = 2):
    return diffusers.AutoencoderKL(
        block_out_channels=(8,) * levels,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=channels,
        shift_factor=0.1,
        norm_num_groups=4,
        sample_size=16,
    )


def unet(in_channels: int = 4, **kwargs):
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
        **kwargs,
    )


def xl_unet():
    return unet(addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=32)


def stable_diffusion():
    scheduler = diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)
    return diffusers.StableDiffusionPipeline(
        autoencoder(), None, None, unet(), scheduler, None, None, requires_safety_checker=False
    )


def stable_diffusion_xl():
    return diffusers.StableDiffusionXLPipeline(
        autoencoder(), None, None, None, None, xl_unet(), diffusers.EulerDiscreteScheduler()
    )


def pooled_inputs() -> dict:
    pooled = {"pooled_prompt_embeds": randn(2, 8, seed=2), "negative_pooled_prompt_embeds": randn(2, 8, seed=3)}
    return embeddings(3, 8) | pooled | {"height": 16, "width": 16}


def sd3_transformer(channels: int = 4):
    return diffusers.SD3Transformer2DModel(
        sample_size=8,
        in_channels=channels,
        out_channels=channels,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=16,
        pooled_projection_dim=8,
        pos_embed_max_size=8,
    )


def stable_diffusion_3():
    return diffusers.StableDiffusion3Pipeline(
        sd3_transformer(),
        diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        autoencoder(),
        *[None] * 6,
    )


def dit():
    transformer = diffusers.DiTTransformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        norm_num_groups=4,
    )
    torch.nn.init.normal_(transformer.proj_out_2.weight, std=0.1)
    return diffusers.DiTPipeline(transformer, autoencoder(), diffusers.DDIMScheduler(clip_sample=False))


def pixart_transformer():
    return diffusers.PixArtTransformer2DModel(
        sample_size=8,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        cross_attention_dim=16,
        caption_channels=8,
        norm_num_groups=4,
        use_additional_conditions=False,
    )


def pixart_sigma():
    return diffusers.PixArtSigmaPipeline(
        None, None, autoencoder(), pixart_transformer(), diffusers.DPMSolverMultistepScheduler()
    )


def pixart_alpha():
    return diffusers.PixArtAlphaPipeline(
        None, None, autoencoder(), pixart_transformer(), diffusers.DPMSolverMultistepScheduler()
    )


def masked(suffix: str) -> dict:
    """Embeddings with their masks, which are called `prompt_` and `negative_prompt_` + `suffix`."""
    masks = {prefix + suffix: torch.ones(2, 3, dtype=torch.long) for prefix in ("prompt_", "negative_prompt_")}
    return embeddings(3, 8) | masks


def sana():
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=8,
        timestep_scale=0.5,
    )
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    return diffusers.SanaPipeline(None, None, None, transformer, scheduler)


def flux_transformer(in_channels: int = 16):
    return diffusers.FluxTransformer2DModel(
        in_channels=in_channels,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    )


def flux():
    return diffusers.FluxPipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), autoencoder(), None, None, None, None, flux_transformer()
    )


def qwen_autoencoder():
    return diffusers.AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def qwen_transformer():
    return diffusers.QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        axes_dims_rope=(4, 4, 8),
    )


def qwen_image():
    return diffusers.QwenImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), qwen_autoencoder(), None, None, qwen_transformer()
    )


def lumina2():
    transformer = diffusers.Lumina2Transformer2DModel(
        sample_size=8,
        in_channels=4,
        hidden_size=24,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=3,
        num_kv_heads=1,
        multiple_of=8,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(32, 16, 16),
        cap_feat_dim=8,
    )
    return diffusers.Lumina2Pipeline(
        transformer, diffusers.FlowMatchEulerDiscreteScheduler(), autoencoder(), None, None
    )


def z_image_transformer():
    return diffusers.ZImageTransformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=8,
        axes_dims=[4, 4, 8],
        axes_lens=[256, 32, 32],
    )


def z_image():
    return diffusers.ZImagePipeline(
        diffusers.FlowMatchEulerDiscreteScheduler(), autoencoder(), None, None, z_image_transformer()
    )


def z_image_inputs() -> dict:
    inputs = {name: list(value) for name, value in embeddings(4, 8).items()}
    return inputs | {"height": 16, "width": 16}


TRUE_CFG = {"scale": {"true_cfg_scale": 5.0}, "plain": {"true_cfg_scale": 1.0}}
SMALL = {"height": 16, "width": 16}
CAPTIONED = {"prompt": None, "negative_prompt": None, "use_resolution_binning": False}

IMAGES = [
    Tiny("StableDiffusion", stable_diffusion, lambda: embeddings(3, 8) | SMALL),
    Tiny("StableDiffusionXL", stable_diffusion_xl, pooled_inputs),
    Tiny("StableDiffusion3", stable_diffusion_3, pooled_inputs),
    Tiny("DiT", dit, lambda: {"class_labels": [0, 1]}, cond_first=True, output="pt"),
    Tiny("PixArt-Sigma", pixart_sigma, lambda: masked("attention_mask") | CAPTIONED | SMALL),
    Tiny("Sana", sana, lambda: masked("attention_mask") | CAPTIONED | {"height": 256, "width": 256}),
    Tiny("Flux", flux, pooled_inputs, **TRUE_CFG, cond_first=True),
    Tiny("QwenImage", qwen_image, lambda: masked("embeds_mask") | SMALL, **TRUE_CFG, cond_first=True),
    Tiny("Lumina2", lumina2, lambda: masked("attention_mask") | SMALL, cond_first=True),
    Tiny(
        "Z-Image",
        z_image,
        z_image_inputs,
        plain={"guidance_scale": 0.0},
        weight=6.0,
        cond_first=True,
        exact=False,
        notes="writes cond + s (cond - uncond), which rounds differently; w = 1 + s",
    ),
]
