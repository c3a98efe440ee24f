"""What the trainings of both latent models share: losses, the networks as one module, and a cheap attention."""

from collections.abc import Callable

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel
from diffusers.models.attention_processor import Attention
from torch.nn import functional
from transformers import CLIPTextModelWithProjection, CLIPTokenizer


class TextToLatent(torch.nn.Module):
    """Transformer and text encoders as one module, since they are trained together."""

    def __init__(
        self,
        tokenizer: CLIPTokenizer,
        text_encoders: list[CLIPTextModelWithProjection],
        transformer: SD3Transformer2DModel,
    ):
        super().__init__()
        self.tokenizer = tokenizer
        self.text_encoders = torch.nn.ModuleList(text_encoders)
        for encoder in text_encoders:
            encoder.set_attn_implementation("eager")  # faster backward pass on CPU; not part of what is saved
        self.transformer = transformer

    def tokens(self, captions: list[str]) -> torch.Tensor:
        """Token ids (B, T), padded to the longest caption of the world."""
        return self.tokenizer(captions, padding="max_length", return_tensors="pt").input_ids

    def forward(
        self, sample: torch.Tensor, sigma: torch.Tensor, tokens: torch.Tensor, zeros: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Velocity of `sample` (B, 4, H, W) at `sigma` (B,), with a zero token after the words.

        Args:
            zeros: (B,) how many zero tokens the pipeline would append, see `BiasedJointAttention`; None for one.
        """
        encoded = [encoder(tokens, output_hidden_states=True) for encoder in self.text_encoders]
        context = torch.cat([out.hidden_states[-2] for out in encoded], dim=-1)
        context = torch.cat([context, torch.zeros_like(context[:, :1])], dim=1)
        pooled = torch.cat([out.text_embeds for out in encoded], dim=-1)
        given = {}
        if zeros is not None:
            keys = sample.shape[-1] * sample.shape[-2] // 4 + context.shape[1]
            bias = torch.zeros(len(sample), 1, 1, keys, device=sample.device)
            bias[..., -1] = zeros.float().log()[:, None, None]
            given = {"joint_attention_kwargs": {"key_bias": bias}}
        return self.transformer(sample, context, pooled, sigma * 1000, return_dict=False, **given)[0]


def flow_loss(
    network: Callable[..., torch.Tensor],
    latents: torch.Tensor,
    tokens: torch.Tensor,
    empty: torch.Tensor,
    batch: int,
    many_zeros: bool = False,
) -> Callable[[torch.Generator], torch.Tensor]:
    """The loss of a `TextToLatent`: flow matching at logit-normal times, without the caption in a tenth of the cases.

    Args:
        latents, tokens: (N, 4, H, W) scaled, and (N, T), on the device of the network.
        empty: (1, T) the tokens of no caption.
        many_zeros: draw from 1 to 256 zero tokens, so that the model does not depend on their number.
    """
    device = latents.device

    def loss(generator: torch.Generator) -> torch.Tensor:
        index = torch.randint(len(latents), (batch,), generator=generator).to(device)
        noise = torch.randn(batch, *latents.shape[1:], generator=generator).to(device)
        sigma = torch.randn(batch, generator=generator).sigmoid().to(device)
        dropped = (torch.rand(batch, 1, generator=generator) < 0.1).to(device)
        zeros = torch.exp2(8 * torch.rand(batch, generator=generator)).to(device) if many_zeros else None
        clean = latents[index]
        noisy = torch.lerp(clean, noise, sigma[:, None, None, None])
        with torch.autocast(device.type, torch.bfloat16):
            velocity = network(noisy, sigma, torch.where(dropped, empty, tokens[index]), zeros)
        return functional.mse_loss(velocity.float(), noise - clean)

    return loss


def autoencoder_loss(model: AutoencoderKL, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Absolute and squared error of images (B, 3, H, W) in [-1, 1] encoded and decoded, and a little of the KL."""
    with torch.autocast(images.device.type, torch.bfloat16):
        posterior = model.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(images.device)
        out = model.decode(posterior.mean + posterior.std * noise).sample.float()
    kl = posterior.kl().mean() / posterior.mean[0].numel()
    return functional.l1_loss(out, images) + functional.mse_loss(out, images) + 1e-3 * kl


@torch.no_grad()
def scale_latents(model: AutoencoderKL, latents: torch.Tensor) -> None:
    """Write to the autoencoder's configuration what brings its `latents` to mean 0 and standard deviation 1."""
    model.register_to_config(shift_factor=latents.mean().item(), scaling_factor=1 / latents.std().item())


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

        image = [heads(project(hidden_states)) for project in (attn.to_q, attn.to_k, attn.to_v)]
        text = [
            heads(project(encoder_hidden_states)) for project in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)
        ]
        image[:2] = attn.norm_q(image[0]), attn.norm_k(image[1])
        text[:2] = attn.norm_added_q(text[0]), attn.norm_added_k(text[1])
        query, key, value = (torch.cat(pair, dim=2) for pair in zip(image, text, strict=True))
        # Written out: on CPU the backward pass of the fused kernel takes several times as long in bfloat16.
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        out = (scores if key_bias is None else scores + key_bias).softmax(dim=-1) @ value
        out = out.transpose(1, 2).flatten(2).to(query.dtype)
        image_out, text_out = out.split([hidden_states.shape[1], encoder_hidden_states.shape[1]], dim=1)
        return attn.to_out[0](image_out), text_out if attn.context_pre_only else attn.to_add_out(text_out)
