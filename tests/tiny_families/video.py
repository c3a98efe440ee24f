"""Tiny video pipelines, one a family."""

import diffusers

from .base import Tiny, embeddings
from .image import TRUE_CFG, masked, pooled_inputs


CLIP = {"height": 16, "width": 16, "num_frames": 5}


def wan_transformer(in_channels: int = 4, **kwargs):
    return diffusers.WanTransformer3DModel(
        in_channels=in_channels,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=8,
        freq_dim=16,
        ffn_dim=16,
        rope_max_seq_len=32,
        **kwargs,
    )


def wan_autoencoder():
    return diffusers.AutoencoderKLWan(
        base_dim=4,
        z_dim=4,
        dim_mult=[1, 1],
        num_res_blocks=1,
        temperal_downsample=[True],
        scale_factor_temporal=2,
        scale_factor_spatial=2,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )


def wan_scheduler():
    return diffusers.UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)


def wan():
    return diffusers.WanPipeline(None, None, wan_autoencoder(), wan_scheduler(), wan_transformer())


def wan_two():
    return diffusers.WanPipeline(
        None, None, wan_autoencoder(), wan_scheduler(), wan_transformer(), wan_transformer(), boundary_ratio=0.8
    )


def ltx():
    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=8,
    )
    return diffusers.LTXPipeline(diffusers.FlowMatchEulerDiscreteScheduler(), None, None, None, transformer)


def hunyuan_transformer(in_channels: int = 4, **kwargs):
    return diffusers.HunyuanVideoTransformer3DModel(
        in_channels=in_channels,
        out_channels=4,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        text_embed_dim=8,
        pooled_projection_dim=8,
        rope_axes_dim=(2, 2, 4),
        **kwargs,
    )


def hunyuan_autoencoder():
    return diffusers.AutoencoderKLHunyuanVideo(
        latent_channels=4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
    )


def hunyuan_video():
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0)
    return diffusers.HunyuanVideoPipeline(None, None, hunyuan_transformer(), None, scheduler, None, None)


def hunyuan_inputs() -> dict:
    return pooled_inputs() | masked("attention_mask") | CLIP


def cogvideox_transformer(in_channels: int = 4):
    return diffusers.CogVideoXTransformer3DModel(
        in_channels=in_channels,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=8,
        text_embed_dim=8,
        time_embed_dim=4,
        max_text_seq_length=3,
        sample_width=2,
        sample_height=2,
        sample_frames=5,
    )


def cogvideox_autoencoder():
    return diffusers.AutoencoderKLCogVideoX(
        block_out_channels=(8, 8),
        down_block_types=("CogVideoXDownBlock3D",) * 2,
        up_block_types=("CogVideoXUpBlock3D",) * 2,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=2,
        temporal_compression_ratio=2,
    )


def cogvideox(scheduler=None):
    scheduler = scheduler or diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction")
    return diffusers.CogVideoXPipeline(None, None, None, cogvideox_transformer(), scheduler)


def cogvideox_dpm():
    return cogvideox(diffusers.CogVideoXDPMScheduler(prediction_type="v_prediction"))


VIDEOS = [
    Tiny("Wan 2.1", wan, lambda: embeddings(3, 8) | CLIP, cond_first=True),
    Tiny(
        "Wan 2.2",
        wan_two,
        lambda: embeddings(3, 8) | CLIP,
        cond_first=True,
        notes="evaluated again, at whatever time, is the network of the step",
    ),
    Tiny("LTX", ltx, lambda: masked("attention_mask") | CLIP | {"height": 64, "width": 64, "num_frames": 9}),
    Tiny(
        "HunyuanVideo",
        hunyuan_video,
        lambda: pooled_inputs() | masked("attention_mask") | CLIP,
        **TRUE_CFG,
        cond_first=True,
    ),
    Tiny("CogVideoX", cogvideox, lambda: embeddings(3, 8) | CLIP),
    Tiny("CogVideoX DPM", cogvideox_dpm, lambda: embeddings(3, 8) | CLIP, family="CogVideoX"),
]
