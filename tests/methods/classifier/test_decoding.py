import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from diffusion_guidance import latent_decoder


def autoencoder(**kwargs) -> AutoencoderKL:
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        **kwargs,
    ).eval()


def tiny() -> AutoencoderTiny:
    torch.manual_seed(0)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
    ).eval()


LATENTS = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("vae", "expected"),
    [
        (autoencoder(scaling_factor=0.5), LATENTS / 0.5),
        (autoencoder(scaling_factor=2.0, shift_factor=0.3), LATENTS / 2 + 0.3),
        (
            autoencoder(scaling_factor=2.0, latents_mean=[0.0, 1.0, 2.0, 3.0], latents_std=[1.0, 2.0, 3.0, 4.0]),
            LATENTS * torch.tensor([1.0, 2, 3, 4]).view(4, 1, 1) / 2 + torch.tensor([0.0, 1, 2, 3]).view(4, 1, 1),
        ),
        (tiny(), LATENTS),
    ],
    ids=["scaling", "shift", "mean and std", "tiny"],
)
def test_decodes_as_pipelines_do_with_the_gradient_of_a_plain_decode(vae, expected):
    wanted = [each.requires_grad for each in vae.parameters()]
    x, latents = LATENTS.clone().requires_grad_(True), expected.clone().requires_grad_(True)
    ours, theirs = latent_decoder(vae)(x), vae.decode(latents).sample
    torch.testing.assert_close(ours, theirs)
    gradient = torch.autograd.grad(ours.square().sum(), x)[0]
    std = (expected[1] - expected[0]) / (LATENTS[1] - LATENTS[0])  # the map is affine, channel by channel
    torch.testing.assert_close(
        gradient, torch.autograd.grad(theirs.square().sum(), latents)[0] * std, rtol=1e-4, atol=1e-6
    )
    assert [each.requires_grad for each in vae.parameters()] == wanted
    assert all(each.grad is None for each in vae.parameters())


def test_a_half_precision_autoencoder_gives_float32_images():
    images = latent_decoder(tiny().to(torch.bfloat16))(LATENTS)
    assert images.dtype == torch.float32 and torch.isfinite(images).all()


@pytest.mark.parametrize("shape", [(2, 16, 4), (2, 3, 4, 4)])
def test_latents_of_another_form_are_refused(shape):
    with pytest.raises(ValueError, match="give a decoder of your own"):
        latent_decoder(autoencoder())(torch.zeros(shape))


def test_nothing_of_the_decoder_is_kept_until_the_backward_pass():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda t: t):
        latent_decoder(autoencoder())(LATENTS.clone().requires_grad_(True))
    assert sum(kept) <= 4 * LATENTS.numel()
