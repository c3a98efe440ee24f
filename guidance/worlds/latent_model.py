"""A small checkpoint in Stable Diffusion 3's format: its parts have stock classes, so stock code loads them."""

from dataclasses import dataclass

from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer


LATENT_CHANNELS = 4


@dataclass(frozen=True)
class Parts:
    """The sizes of a checkpoint's networks; the methods build them, with random weights.

    Attributes:
        size: pixels per side of an image; latents have a quarter.
        text_tokens: of the longest caption, begin and end of text included.
        text_width, text_layers, text_heads: of both text encoders; Stable Diffusion 3 reads the last layer but one.
    """

    size: int
    text_tokens: int
    text_width: int
    text_layers: int
    text_heads: int

    @property
    def latent_size(self) -> int:
        return self.size // 4

    def autoencoder(self) -> AutoencoderKL:
        """Images (B, 3, size, size) in [-1, 1] to 4 channels of a quarter of the side, and back."""
        return AutoencoderKL(
            block_out_channels=(24, 48, 64),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            layers_per_block=1,
            latent_channels=LATENT_CHANNELS,
            norm_num_groups=8,
            sample_size=self.size,
            mid_block_add_attention=False,
            use_quant_conv=False,
            use_post_quant_conv=False,
            scaling_factor=1.0,  # both are set when the latents of trained weights are known
            shift_factor=0.0,
        )

    def transformer(self, width: int, layers: int) -> SD3Transformer2DModel:
        """The flow model in latent space: an image token for each 2 x 2 latent pixels, next to the caption's."""
        return SD3Transformer2DModel(
            sample_size=self.latent_size,
            patch_size=2,
            in_channels=LATENT_CHANNELS,
            out_channels=LATENT_CHANNELS,
            num_layers=layers,
            attention_head_dim=32,
            num_attention_heads=width // 32,
            joint_attention_dim=2 * self.text_width,
            caption_projection_dim=width,
            pooled_projection_dim=2 * self.text_width,
            pos_embed_max_size=self.latent_size // 2,
            qk_norm="rms_norm",
        )

    def text_encoder(self, tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
        return CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=self.text_width,
                intermediate_size=4 * self.text_width,
                projection_dim=self.text_width,
                num_hidden_layers=self.text_layers,
                num_attention_heads=self.text_heads,
                max_position_embeddings=self.text_tokens,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
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
