"""The parts of the shapes checkpoint, each of a stock diffusers or transformers class: stock code loads them."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from diffusers.models.attention_processor import Attention
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from ..core.files import write_atomic
from .shapes import vocabulary


TEXT_TOKENS = 24  # the longest caption has 19 words; begin and end of text make 21
_TEXT_WIDTH = 64
LATENT_SIZE = 8


def build_autoencoder() -> AutoencoderKL:
    """32 x 32 images in [-1, 1] to 4 channels of 8 x 8 and back."""
    return AutoencoderKL(
        block_out_channels=(24, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=32,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,  # both are set when the latents of trained weights are known
        shift_factor=0.0,
    )


def build_transformer(width: int = 160, layers: int = 6) -> SD3Transformer2DModel:
    """The flow model in latent space: 16 image tokens next to the caption's."""
    return SD3Transformer2DModel(
        sample_size=LATENT_SIZE,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=layers,
        attention_head_dim=32,
        num_attention_heads=width // 32,
        joint_attention_dim=2 * _TEXT_WIDTH,
        caption_projection_dim=width,
        pooled_projection_dim=2 * _TEXT_WIDTH,
        pos_embed_max_size=LATENT_SIZE // 2,
        qk_norm="rms_norm",
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    """A CLIP text encoder of three layers; Stable Diffusion 3 reads the last but one."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=_TEXT_WIDTH,
            intermediate_size=4 * _TEXT_WIDTH,
            projection_dim=_TEXT_WIDTH,
            num_hidden_layers=3,
            num_attention_heads=2,
            max_position_embeddings=TEXT_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_tokenizer() -> CLIPTokenizer:
    """A CLIP tokenizer that knows each word of the world as one token and spells every other word in letters."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocab = [*letters, *(letter + "</w>" for letter in letters)]
    merges = []
    # The longest word first: an early merge of a short one ("a" + "n" of "and") would split "triangle".
    for word in sorted(vocabulary(), key=len, reverse=True):
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merges.append((parts[0], parts[1]))
            parts[:2] = [parts[0] + parts[1]]
            vocab.append(parts[0])
    vocab = list(dict.fromkeys([*vocab, "<|startoftext|>", "<|endoftext|>"]))
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(vocab)},
        merges=list(dict.fromkeys(merges)),
        model_max_length=TEXT_TOKENS,
    )


def build_pipeline(
    transformer: SD3Transformer2DModel,
    vae: AutoencoderKL,
    text_encoders: list[CLIPTextModelWithProjection],
    tokenizer: CLIPTokenizer,
) -> StableDiffusion3Pipeline:
    """A stock pipeline without the third text encoder."""
    return StableDiffusion3Pipeline(
        transformer=transformer,
        vae=vae,
        text_encoder=text_encoders[0],
        text_encoder_2=text_encoders[1],
        text_encoder_3=None,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        tokenizer_3=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
    )


class BiasedJointAttention:
    """Joint attention with a bias per key, for training only.

    Without a third text encoder the stock pipeline appends `max_sequence_length` zero tokens to the caption. They are
    equal and have no position, so N of them act exactly as one whose attention logit is raised by log N. Training with
    one such token and random N makes the model indifferent to N at the cost of a single token.
    """

    def __call__(
        self,
        attn: Attention,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        key_bias: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        def heads(states: torch.Tensor) -> torch.Tensor:
            return states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        picture = [heads(project(hidden_states)) for project in (attn.to_q, attn.to_k, attn.to_v)]
        text = [
            heads(project(encoder_hidden_states)) for project in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        ]
        picture[:2] = attn.norm_q(picture[0]), attn.norm_k(picture[1])
        text[:2] = attn.norm_added_q(text[0]), attn.norm_added_k(text[1])
        query, key, value = (torch.cat(pair, dim=2) for pair in zip(picture, text, strict=True))
        # Written out: on CPU the backward pass of the fused kernel takes several times as long in bfloat16.
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        out = (scores if key_bias is None else scores + key_bias).softmax(dim=-1) @ value
        out = out.transpose(1, 2).flatten(2).to(query.dtype)
        picture_out, text_out = out.split([hidden_states.shape[1], encoder_hidden_states.shape[1]], dim=1)
        return attn.to_out[0](picture_out), text_out if attn.context_pre_only else attn.to_add_out(text_out)


def write_card(folder: Path, text: str, facts: dict) -> None:
    """The checkpoint's README.md: `text`, then `facts` as JSON."""
    card = f"{text}\n\n```json\n{json.dumps(facts, indent=1)}\n```\n"
    write_atomic(folder / "README.md", lambda temporary: temporary.write_text(card, encoding="utf-8"))
