"""The parts of the emoji checkpoint, each of a stock diffusers or transformers class: stock code loads them."""

from collections.abc import Iterable

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, StableDiffusion3Pipeline
from tokenizers import AddedToken
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from .emoji import SIZE


TEXT_TOKENS = 12  # the longest caption has 10 words; begin and end of text make 12
LATENT_CHANNELS = 4
LATENT_SIZE = SIZE // 4
_TEXT_WIDTH = 96


def build_autoencoder() -> AutoencoderKL:
    """Images (B, 3, 64, 64) in [-1, 1] to 4 channels of 16 x 16 and back."""
    return AutoencoderKL(
        block_out_channels=(24, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=1.0,  # both are set when the latents of trained weights are known
        shift_factor=0.0,
    )


def build_transformer(width: int = 192, layers: int = 6) -> SD3Transformer2DModel:
    """The flow model in latent space: 64 image tokens next to the caption's."""
    return SD3Transformer2DModel(
        sample_size=LATENT_SIZE,
        patch_size=2,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
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
    """A CLIP text encoder of two layers; Stable Diffusion 3 reads the last but one."""
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=_TEXT_WIDTH,
            intermediate_size=4 * _TEXT_WIDTH,
            projection_dim=_TEXT_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=3,
            max_position_embeddings=TEXT_TOKENS,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def build_tokenizer(words: Iterable[str]) -> CLIPTokenizer:
    """A CLIP tokenizer that knows each of `words` as one token and spells every other word in letters."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    vocab = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(
        vocab={token: i for i, token in enumerate(vocab)}, merges=[], model_max_length=TEXT_TOKENS
    )
    # Added tokens rather than merges: merges of 1,800 words would split one another's words.
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=True) for word in sorted(set(words))])
    return tokenizer


class TextToLatent(torch.nn.Module):
    """Transformer and word encoders as one module, since they are trained together."""

    def __init__(self, tokenizer: CLIPTokenizer, width: int = 192, layers: int = 6):
        super().__init__()
        encoders = [build_text_encoder(tokenizer) for _ in range(2)]
        transformer = build_transformer(width, layers)
        for encoder in encoders:  # words far apart from the start
            torch.nn.init.normal_(encoder.text_model.embeddings.token_embedding.weight, std=0.2)
        for name, module in transformer.named_modules():  # blocks begin as the identity, as in DiT
            if isinstance(module, torch.nn.Linear) and name.endswith(
                ("norm1.linear", "norm1_context.linear", "proj_out")
            ):
                torch.nn.init.zeros_(module.weight)
                torch.nn.init.zeros_(module.bias)
        self._hold(tokenizer, encoders, transformer)

    @classmethod
    def of(cls, pipe: StableDiffusion3Pipeline) -> "TextToLatent":
        """The parts of a loaded checkpoint, in float32, to train further."""
        model = cls.__new__(cls)
        torch.nn.Module.__init__(model)
        model._hold(pipe.tokenizer, [pipe.text_encoder, pipe.text_encoder_2], pipe.transformer)
        return model.float()

    def _hold(
        self,
        tokenizer: CLIPTokenizer,
        encoders: list[CLIPTextModelWithProjection],
        transformer: SD3Transformer2DModel,
    ) -> None:
        self.tokenizer = tokenizer
        self.text_encoders = torch.nn.ModuleList(encoders)
        for encoder in encoders:
            encoder.set_attn_implementation("eager")  # faster backward pass on CPU; not part of what is saved
        self.transformer = transformer

    def tokens(self, captions: list[str]) -> torch.Tensor:
        """Token ids (B, 12)."""
        return self.tokenizer(captions, padding="max_length", return_tensors="pt").input_ids

    def forward(self, sample: torch.Tensor, sigma: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Velocity (B, 4, 16, 16) of `sample`, of that shape, at `sigma` (B,), with one zero token after the words."""
        encoded = [encoder(tokens, output_hidden_states=True) for encoder in self.text_encoders]
        context = torch.cat([out.hidden_states[-2] for out in encoded], dim=-1)
        context = torch.cat([context, torch.zeros_like(context[:, :1])], dim=1)
        pooled = torch.cat([out.text_embeds for out in encoded], dim=-1)
        return self.transformer(sample, context, pooled, sigma * 1000, return_dict=False)[0]
