"""The small digits model: an eps-predicting, class-conditional diffusion transformer in pixel space."""

from diffusers import DDPMScheduler, DiTTransformer2DModel

from .digits import DIGITS


def build_transformer(width: int = 64, layers: int = 4) -> DiTTransformer2DModel:
    """A `DiTTransformer2DModel` for images (B, 1, 8, 8); the class id `len(DIGITS)` means no class."""
    model = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=width // 4,
        in_channels=1,
        out_channels=1,
        num_layers=layers,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=len(DIGITS),
    )
    for block in model.transformer_blocks:
        # Each block would drop the class by a draw of its own, and not by the training's generator.
        block.norm1.emb.class_embedder.dropout_prob = 0.0
    return model


def build_scheduler() -> DDPMScheduler:
    """DDPM with the cosine schedule, which destroys small images later than the linear one."""
    return DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="epsilon")
