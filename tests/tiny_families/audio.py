"""Tiny audio pipelines, one a family."""

import diffusers
import torch
from diffusers.pipelines.audioldm2 import AudioLDM2UNet2DConditionModel
from diffusers.pipelines.stable_audio import StableAudioProjectionModel
from transformers import GPT2Config, GPT2LMHeadModel, SpeechT5HifiGan, SpeechT5HifiGanConfig, T5Config, T5EncoderModel

from .base import Tiny, embeddings
from .image import autoencoder


def stable_audio():
    transformer = diffusers.StableAudioDiTModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_attention_heads=2,
        cross_attention_dim=16,
        cross_attention_input_dim=8,
        time_proj_dim=8,
        global_states_input_dim=16,
    )
    vae = diffusers.AutoencoderOobleck(
        encoder_hidden_size=4, downsampling_ratios=[1, 2], decoder_channels=4, decoder_input_channels=4
    )
    projection = StableAudioProjectionModel(text_encoder_dim=8, conditioning_dim=8, min_value=0, max_value=32)
    scheduler = diffusers.CosineDPMSolverMultistepScheduler(sigma_schedule="exponential")
    return diffusers.StableAudioPipeline(vae, None, projection, None, transformer, scheduler)


def stable_audio_inputs() -> dict:
    mask = {name: torch.ones(2, 3, dtype=torch.long) for name in ("attention_mask", "negative_attention_mask")}
    return embeddings(3, 8) | mask


def audioldm2():
    network = AudioLDM2UNet2DConditionModel(
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=(8, 8),
        attention_head_dim=4,
    )
    vocoder = SpeechT5HifiGan(
        SpeechT5HifiGanConfig(
            model_in_dim=8,
            sampling_rate=16000,
            upsample_initial_channel=16,
            upsample_rates=[2, 2],
            upsample_kernel_sizes=[4, 4],
            resblock_kernel_sizes=[3],
            resblock_dilation_sizes=[[1]],
        )
    )
    scheduler = diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)
    # Asked for their types and dtypes only, since the embeddings are given.
    encoder = T5EncoderModel(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    language = GPT2LMHeadModel(
        GPT2Config(vocab_size=8, n_positions=8, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    )
    return diffusers.AudioLDM2Pipeline(
        autoencoder(), None, encoder, None, language, None, None, None, network, scheduler, vocoder
    )


def audioldm2_inputs() -> dict:
    names = ("generated_prompt_embeds", "negative_generated_prompt_embeds")
    mask = {name: torch.ones(2, 3, dtype=torch.long) for name in ("attention_mask", "negative_attention_mask")}
    return embeddings(3, 8) | embeddings(2, 8, names) | mask | {"audio_length_in_s": 0.004}


AUDIO = [
    Tiny("StableAudio", stable_audio, stable_audio_inputs),
    Tiny("AudioLDM2", audioldm2, audioldm2_inputs),
]
