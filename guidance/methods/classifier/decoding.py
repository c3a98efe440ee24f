"""Latents to images with a gradient: through the pipeline's own autoencoder, or through a tiny one."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from ...core.differentiable import frozen, recomputed
from ...core.step import Step


if TYPE_CHECKING:
    from diffusers import ModelMixin

Decoder = torch.nn.Module | Callable[[torch.Tensor], torch.Tensor] | None


def decoder_of(step: Step, decoder: Decoder) -> Callable[[torch.Tensor], torch.Tensor] | None:
    """The function from the model's estimates to images with a gradient; None for a model that works in pixels.

    Args:
        decoder: an autoencoder, which is moved to the sample's device; a function; or None for the pipeline's `vae`.
    """
    if isinstance(decoder, torch.nn.Module):
        place(decoder, step.sample.device)
    source = step.denoiser.component("vae") if decoder is None else decoder
    return latent_decoder(source) if isinstance(source, torch.nn.Module) else source


def images_of(step: Step, estimate: torch.Tensor, decoder: Decoder) -> torch.Tensor:
    """What a classifier sees of an estimate: decoded, see `decoder_of`, or clipped to [-1, 1] in pixel space."""
    decode = decoder_of(step, decoder)
    return decode(estimate) if decode else estimate.clamp(-1, 1)


def place(module: torch.nn.Module, device: torch.device) -> None:
    """Move `module` to `device` if it is elsewhere."""
    parameter = next(module.parameters(), None)
    if parameter is not None and parameter.device != device:
        module.to(device)


def latent_decoder(vae: "ModelMixin") -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from latents in the diffusion model's scaling to images in about [-1, 1], with a gradient.

    The scaling is read in the autoencoder's configuration, as pipelines do: `z / scaling_factor + shift_factor`, or
    `z * latents_std / scaling_factor + latents_mean` by channel. Activations are not kept but computed again in the
    backward pass, so only one of decoder and classifier holds activations at a time.

    Args:
        vae: an autoencoder of diffusers with `decode` (`AutoencoderKL`, `AutoencoderTiny`, ...). Its weights get no
            gradient. It is given latents in its own dtype; the result is float32.

    Raises:
        ValueError: when called with latents of another number of channels than the autoencoder's.
    """
    config = vae.config
    channels = config.get("latent_channels") or config.get("z_dim")
    scaling, shift = config.get("scaling_factor") or 1.0, config.get("shift_factor") or 0.0
    mean, std = config.get("latents_mean"), config.get("latents_std")

    def image(latents: torch.Tensor) -> torch.Tensor:
        if mean is not None and std is not None:
            shape = (1, -1, *[1] * (latents.ndim - 2))
            latents = latents * _constant(std, latents).view(shape) / scaling + _constant(mean, latents).view(shape)
        else:
            latents = latents / scaling + shift
        with frozen(vae):
            return vae.decode(latents.to(vae.dtype), return_dict=False)[0].float()

    def decode(latents: torch.Tensor) -> torch.Tensor:
        if latents.ndim < 4 or (channels and latents.shape[1] != channels):
            raise ValueError(
                f"{type(vae).__name__} decodes latents (B, {channels or 'C'}, H, W), and the model's are "
                f"{tuple(latents.shape)}; give a decoder of your own: a function from these latents to images "
                "(B, C, H, W) in [-1, 1]"
            )
        return recomputed(image, latents)

    return decode


def _constant(values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).to(like.device, non_blocking=True)
