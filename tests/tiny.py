"""Tiny pipelines of the real diffusers classes with random weights, built offline."""

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    StableDiffusion3Pipeline,
)

from diffusion_guidance.worlds.latent_model import build_pipeline
from diffusion_guidance.worlds.shapes_model import PARTS, build_tokenizer


def tiny_sd3(dtype: torch.dtype = torch.float32) -> StableDiffusion3Pipeline:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    encoders = [PARTS.text_encoder(tokenizer) for _ in range(2)]
    pipe = build_pipeline(PARTS.transformer(width=64, layers=2), PARTS.autoencoder(), encoders, tokenizer)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(dtype)


def tiny_dit(dtype: torch.dtype = torch.float32, scheduler=None, learn_sigma: bool = True) -> DiTPipeline:
    torch.manual_seed(0)
    transformer = DiTTransformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=8 if learn_sigma else 4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        num_embeds_ada_norm=1000,
        norm_num_groups=8,
    )
    torch.nn.init.normal_(transformer.proj_out_2.weight, std=0.1)
    vae = AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=16,
    )
    pipe = DiTPipeline(transformer.eval(), vae.eval(), scheduler or DDIMScheduler(), id2label={0: "zero", 1: "one"})
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(dtype)


PROMPTS = [
    "a red circle at the top left and a blue star at the bottom right on a dark background",
    "a green cross at the top right and a cyan square at the bottom left on a light background",
]


def draw_sd3(pipe, prompts=PROMPTS, steps: int = 3, weight: float = 5.0, seed: int = 0, **kwargs) -> torch.Tensor:
    """Final latents."""
    kwargs = {"max_sequence_length": 2, "output_type": "latent", "guidance_scale": weight} | kwargs
    return pipe(prompts, num_inference_steps=steps, generator=torch.Generator().manual_seed(seed), **kwargs).images


def draw_dit(pipe, classes=(0, 1), steps: int = 3, weight: float = 4.0, seed: int = 0, **kwargs) -> torch.Tensor:
    """Decoded images, since DiT has no latent output."""
    generator = torch.Generator().manual_seed(seed)
    kwargs = {"output_type": "pt", "guidance_scale": weight} | kwargs
    return pipe(list(classes), num_inference_steps=steps, generator=generator, **kwargs).images
