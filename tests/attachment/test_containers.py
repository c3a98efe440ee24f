"""A3: pipelines and networks change the lists and dictionaries that they hand over; evaluations see them unchanged."""

import diffusers
import torch

from diffusion_guidance import CFG, attach

from ..tiny_families import FAMILIES, relative_error
from ..tiny_families.base import embeddings, randn


BY_NAME = {tiny.name: tiny for tiny in FAMILIES}
IMAGES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4))


def check(pipe, draw, weight: float = 5.0) -> None:
    """The network evaluated again says the same, however often, and plain guidance is the pipeline's."""
    plain, errors = draw(), []

    def again(step, proceed):
        for _ in range(3):
            for found, expected in zip(step.denoise(step.sample, step.timestep), (step.cond, step.uncond), strict=True):
                errors.append(relative_error(found, expected))
        return proceed(step)

    with attach(pipe, [CFG(weight), again]):
        assert relative_error(draw(), plain) < 1e-6
    assert len(errors) == 18 and max(errors) < 1e-6


def test_flux_swaps_the_images_of_an_ip_adapter_in_one_dictionary():
    tiny = BY_NAME["Flux"]
    pipe = tiny.pipe()
    width = pipe.transformer.inner_dim
    torch.manual_seed(0)
    projection = {
        "proj.weight": torch.randn(4 * 8, 6),
        "proj.bias": torch.randn(4 * 8),
        "norm.weight": torch.ones(8),
        "norm.bias": torch.zeros(8),
    }
    adapter = {f"0.to_{key}_ip.weight": torch.randn(width, 8) for key in "kv"}
    adapter |= {f"0.to_{key}_ip.bias": torch.randn(width) for key in "kv"}
    pipe.transformer._load_ip_adapter_weights([{"image_proj": projection, "ip_adapter": adapter}])
    positive, negative = ([randn(2, 1, 6, seed=seed)] for seed in (5, 6))
    images = {"ip_adapter_image_embeds": positive, "negative_ip_adapter_image_embeds": negative}
    swapped = images | {"negative_ip_adapter_image_embeds": positive}
    assert relative_error(tiny.draw(pipe, **swapped), tiny.draw(pipe, **images)) > 0.1
    check(pipe, lambda: tiny.draw(pipe, **images))


def test_a_unet_pops_the_features_of_a_t2i_adapter_from_a_list():
    tiny = BY_NAME["StableDiffusion"]
    parts = {name: part for name, part in tiny.pipe().components.items() if name != "image_encoder"}
    torch.manual_seed(0)
    blocks = {
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }
    parts["unet"] = diffusers.UNet2DConditionModel.from_config(parts["unet"].config, **blocks)
    adapter = diffusers.T2IAdapter(channels=[8, 16], num_res_blocks=1, downscale_factor=2)
    pipe = diffusers.StableDiffusionAdapterPipeline(**parts, adapter=adapter, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    assert relative_error(tiny.draw(pipe, image=0 * IMAGES), tiny.draw(pipe, image=IMAGES)) > 0.05
    check(pipe, lambda: tiny.draw(pipe, image=IMAGES))


def test_hunyuan_dit_pops_the_features_of_a_controlnet_from_a_list():
    sizes = {"sample_size": 8, "patch_size": 2, "attention_head_dim": 8, "num_attention_heads": 3, "in_channels": 4}
    sizes |= {"cross_attention_dim": 8, "cross_attention_dim_t5": 8, "pooled_projection_dim": 8, "hidden_size": 24}
    sizes |= {"text_len": 3, "text_len_t5": 3}
    vae = BY_NAME["StableDiffusion"].pipe().vae
    torch.manual_seed(0)
    network = diffusers.HunyuanDiT2DModel(num_layers=4, **sizes).eval()
    control = diffusers.HunyuanDiT2DControlNetModel(transformer_num_layers=4, **sizes).eval()
    for parameter in control.controlnet_blocks.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    pipe = diffusers.HunyuanDiTControlNetPipeline(
        vae, None, None, network, diffusers.DDPMScheduler(), None, None, control, requires_safety_checker=False
    )
    pipe.set_progress_bar_config(disable=True)
    both = ("prompt_{}", "negative_prompt_{}", "prompt_{}_2", "negative_prompt_{}_2")
    given = embeddings(3, 8, [name.format("embeds") for name in both])
    given |= {name.format("attention_mask"): torch.ones(2, 3, dtype=torch.long) for name in both}

    def draw(scale: float = 1.0) -> torch.Tensor:
        return pipe(
            control_image=IMAGES,
            height=16,
            width=16,
            num_inference_steps=3,
            generator=torch.Generator().manual_seed(1),
            output_type="latent",
            controlnet_conditioning_scale=scale,
            **given,
        ).images

    assert relative_error(draw(0.0), draw()) > 0.1
    check(pipe, draw)
