"""Image-to-image, inpainting, ControlNet and other variants, made from the components of their family."""

import diffusers
import torch
from torchvision.transforms.functional import to_pil_image

from . import image, video
from .base import Tiny, embeddings


PICTURES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4))
MASK = torch.cat([torch.zeros(2, 1, 16, 8), torch.ones(2, 1, 16, 8)], -1)
CLIPS = torch.rand(2, 5, 3, 16, 16, generator=torch.Generator().manual_seed(4))
PICTURE = to_pil_image(PICTURES[0])
EDITED = {"height": 256, "width": 256}
START = {"image": PICTURES, "strength": 0.7}
ONE_CLIP = {"image": PICTURES[:1], **embeddings(3, 8, batch=1)}
PAINT = START | {"mask_image": MASK}


def like(family: Tiny, suffix: str, pipeline: type, inputs: dict, drop: tuple = (), **components) -> Tiny:
    """A variant of `family`: the same components except for `components`, the same arguments and `inputs`."""

    def build():
        parts = family.build().components
        made = {name: component() for name, component in components.items()}
        return pipeline(**{name: part for name, part in parts.items() if name not in drop} | made)

    return Tiny(
        f"{family.name} {suffix}",
        build,
        lambda: {name: value for name, value in family.inputs().items() if name not in drop} | inputs,
        family.name,
        family.scale,
        family.plain,
        family.weight,
        family.cond_first,
        family.exact,
        notes=family.notes,
    )


def sd_controlnet(**kwargs):
    net = diffusers.ControlNetModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        norm_num_groups=4,
        cross_attention_dim=8,
        attention_head_dim=4,
        conditioning_embedding_out_channels=(4, 8),
        **kwargs,
    )
    return _randomised(net, "controlnet_down_blocks", "controlnet_mid_block")


def xl_controlnet():
    return sd_controlnet(
        addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=32
    )


def sd3_controlnet(mask_channels: int = 0):
    net = diffusers.SD3ControlNetModel(
        sample_size=8,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=8,
        caption_projection_dim=16,
        pooled_projection_dim=8,
        pos_embed_max_size=8,
        extra_conditioning_channels=mask_channels,
    )
    return _randomised(net, "controlnet_blocks")


def flux_controlnet():
    net = diffusers.FluxControlNetModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        pooled_projection_dim=8,
        axes_dims_rope=(4, 4, 8),
    )
    return _randomised(net, "controlnet_blocks", "controlnet_single_blocks")


def qwen_controlnet(mask_channels: int = 0):
    net = diffusers.QwenImageControlNetModel(
        extra_condition_channels=mask_channels,
        in_channels=16,
        out_channels=4,
        num_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=8,
        axes_dims_rope=(4, 4, 8),
    )
    return _randomised(net, "controlnet_blocks")


def sana_autoencoder():
    return diffusers.AutoencoderDC(
        in_channels=3,
        latent_channels=4,
        attention_head_dim=2,
        encoder_block_types=("ResBlock", "ResBlock"),
        decoder_block_types=("ResBlock", "ResBlock"),
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_qkv_multiscales=((), ()),
        decoder_qkv_multiscales=((), ()),
    )


def sana_controlnet():
    net = diffusers.SanaControlNetModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=4,
        num_cross_attention_heads=2,
        cross_attention_head_dim=4,
        cross_attention_dim=8,
        caption_channels=8,
        sample_size=8,
    )
    return _randomised(net, "input_block", "controlnet_blocks")


def z_controlnet(mask_channels: int = 0):
    net = diffusers.ZImageControlNetModel(
        control_layers_places=[0],
        control_refiner_layers_places=[0],
        control_in_dim=4 + mask_channels,
        add_control_noise_refiner="control_noise_refiner" if mask_channels else None,
        dim=32,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
    )
    for block in net.control_layers:
        _randomised(block, "after_proj")
    return net


class CoarseAutoencoder(diffusers.AutoencoderKLQwenImage):
    """Edit pipelines bring every image to a million pixels; thinned before it is encoded, it is few tokens."""

    def encode(self, x: torch.Tensor, return_dict: bool = True):
        return super().encode(x[..., ::32, ::32], return_dict)


def coarse_autoencoder():
    vae = CoarseAutoencoder.from_config(image.qwen_autoencoder().config)
    vae.temperal_downsample = [False] * 6  # from which the pipelines learn the scale, 64
    return vae


def vace_transformer():
    return diffusers.WanVACETransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=12,
        text_dim=8,
        freq_dim=16,
        ffn_dim=16,
        rope_max_seq_len=32,
        vace_layers=[0],
        vace_in_channels=12,
    )


def _randomised(net: torch.nn.Module, *names: str) -> torch.nn.Module:
    """ControlNets begin with zeros; random ones show that their residuals are kept."""
    for name in names:
        for parameter in getattr(net, name).parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    return net


FAMILY = {tiny.name: tiny for tiny in (*image.IMAGES, *video.VIDEOS)}
SD, SDXL, SD3 = FAMILY["StableDiffusion"], FAMILY["StableDiffusionXL"], FAMILY["StableDiffusion3"]
FLUX, QWEN, Z_IMAGE = FAMILY["Flux"], FAMILY["QwenImage"], FAMILY["Z-Image"]
SANA = FAMILY["Sana"]
WAN, COG, HUNYUAN = FAMILY["Wan 2.1"], FAMILY["CogVideoX"], FAMILY["HunyuanVideo"]

VARIANTS = [
    like(SD, "img2img", diffusers.StableDiffusionImg2ImgPipeline, START, ("height", "width")),
    like(SD, "inpaint", diffusers.StableDiffusionInpaintPipeline, PAINT, unet=lambda: image.unet(9)),
    like(
        SD,
        "upscale",
        diffusers.StableDiffusionUpscalePipeline,
        {"image": PICTURES, "noise_level": 5},
        ("height", "width", "image_encoder"),
        unet=lambda: image.unet(7, num_class_embeds=10),
        low_res_scheduler=diffusers.DDPMScheduler,
    ),
    like(SD, "ControlNet", diffusers.StableDiffusionControlNetPipeline, {"image": PICTURES}, controlnet=sd_controlnet),
    like(
        SD,
        "ControlNet img2img",
        diffusers.StableDiffusionControlNetImg2ImgPipeline,
        START | {"control_image": PICTURES},
        controlnet=sd_controlnet,
    ),
    like(
        SD,
        "ControlNet inpaint",
        diffusers.StableDiffusionControlNetInpaintPipeline,
        PAINT | {"control_image": PICTURES},
        controlnet=sd_controlnet,
    ),
    like(SDXL, "img2img", diffusers.StableDiffusionXLImg2ImgPipeline, START, ("height", "width")),
    like(SDXL, "inpaint", diffusers.StableDiffusionXLInpaintPipeline, PAINT),
    like(
        SDXL, "ControlNet", diffusers.StableDiffusionXLControlNetPipeline, {"image": PICTURES}, controlnet=xl_controlnet
    ),
    like(
        SDXL,
        "ControlNet img2img",
        diffusers.StableDiffusionXLControlNetImg2ImgPipeline,
        START | {"control_image": PICTURES},
        controlnet=xl_controlnet,
    ),
    like(
        SDXL,
        "ControlNet inpaint",
        diffusers.StableDiffusionXLControlNetInpaintPipeline,
        PAINT | {"control_image": PICTURES},
        controlnet=xl_controlnet,
    ),
    like(SD3, "img2img", diffusers.StableDiffusion3Img2ImgPipeline, START),
    like(
        SD3,
        "inpaint",
        diffusers.StableDiffusion3InpaintPipeline,
        PAINT,
        transformer=lambda: image.sd3_transformer(16),
        vae=lambda: image.autoencoder(16),
    ),
    like(
        SD3,
        "ControlNet",
        diffusers.StableDiffusion3ControlNetPipeline,
        {"control_image": PICTURES},
        controlnet=sd3_controlnet,
    ),
    like(
        SD3,
        "ControlNet inpaint",
        diffusers.StableDiffusion3ControlNetInpaintingPipeline,
        {"control_image": PICTURES, "control_mask": MASK},
        controlnet=lambda: sd3_controlnet(1),
    ),
    Tiny("PixArt-Alpha", image.pixart_alpha, FAMILY["PixArt-Sigma"].inputs, "PixArt-Sigma"),
    like(FLUX, "img2img", diffusers.FluxImg2ImgPipeline, START),
    like(FLUX, "inpaint", diffusers.FluxInpaintPipeline, PAINT),
    like(FLUX, "ControlNet", diffusers.FluxControlNetPipeline, {"control_image": PICTURES}, controlnet=flux_controlnet),
    like(FLUX, "Kontext", diffusers.FluxKontextPipeline, {"image": PICTURES, "max_area": 256, "_auto_resize": False}),
    like(
        FLUX,
        "Kontext inpaint",
        diffusers.FluxKontextInpaintPipeline,
        PAINT | {"max_area": 256, "_auto_resize": False},
    ),
    like(QWEN, "img2img", diffusers.QwenImageImg2ImgPipeline, START),
    like(QWEN, "inpaint", diffusers.QwenImageInpaintPipeline, PAINT),
    like(
        QWEN,
        "ControlNet",
        diffusers.QwenImageControlNetPipeline,
        {"control_image": PICTURES},
        controlnet=qwen_controlnet,
    ),
    like(
        QWEN,
        "ControlNet inpaint",
        diffusers.QwenImageControlNetInpaintPipeline,
        {"control_image": PICTURES, "control_mask": MASK},
        controlnet=lambda: qwen_controlnet(4),
    ),
    *(
        like(QWEN, name, kind, inputs | EDITED, vae=coarse_autoencoder, processor=lambda: None)
        for name, kind, inputs in [
            ("Edit", diffusers.QwenImageEditPipeline, {"image": PICTURE}),
            (
                "Edit Plus",
                diffusers.QwenImageEditPlusPipeline,
                {name: value[:1] for name, value in QWEN.inputs().items() if isinstance(value, torch.Tensor)}
                | {"image": [PICTURE, PICTURE]},
            ),
            (
                "Edit inpaint",
                diffusers.QwenImageEditInpaintPipeline,
                {"image": PICTURE, "mask_image": to_pil_image(MASK[0]), "strength": 0.7},
            ),
        ]
    ),
    like(
        SANA,
        "ControlNet",
        diffusers.SanaControlNetPipeline,
        {"control_image": PICTURES.repeat(1, 1, 2, 2), "height": 32, "width": 32},
        vae=sana_autoencoder,
        controlnet=sana_controlnet,
    ),
    like(
        Z_IMAGE, "ControlNet", diffusers.ZImageControlNetPipeline, {"control_image": PICTURES}, controlnet=z_controlnet
    ),
    like(
        Z_IMAGE,
        "ControlNet inpaint",
        diffusers.ZImageControlNetInpaintPipeline,
        {"control_image": PICTURES, "image": PICTURES, "mask_image": MASK},
        controlnet=lambda: z_controlnet(5),
    ),
    like(Z_IMAGE, "img2img", diffusers.ZImageImg2ImgPipeline, START),
    like(Z_IMAGE, "inpaint", diffusers.ZImageInpaintPipeline, PAINT),
    like(
        WAN,
        "image to video",
        diffusers.WanImageToVideoPipeline,
        ONE_CLIP,
        transformer=lambda: video.wan_transformer(10),
        image_encoder=lambda: None,
        image_processor=lambda: None,
    ),
    like(WAN, "expanded timesteps", diffusers.WanPipeline, {}, expand_timesteps=lambda: True),
    like(
        WAN,
        "image to video, expanded timesteps",
        diffusers.WanImageToVideoPipeline,
        ONE_CLIP,
        image_encoder=lambda: None,
        image_processor=lambda: None,
        expand_timesteps=lambda: True,
    ),
    like(
        COG,
        "image to video",
        diffusers.CogVideoXImageToVideoPipeline,
        ONE_CLIP,
        vae=video.cogvideox_autoencoder,
        transformer=lambda: video.cogvideox_transformer(8),
    ),
    like(
        WAN,
        "video to video",
        diffusers.WanVideoToVideoPipeline,
        {"video": CLIPS, "strength": 0.7},
        ("num_frames", "transformer_2", "boundary_ratio", "expand_timesteps"),
    ),
    like(
        WAN,
        "VACE",
        diffusers.WanVACEPipeline,
        embeddings(3, 8, batch=1),
        ("expand_timesteps",),
        transformer=vace_transformer,
    ),
    like(
        COG,
        "video to video",
        diffusers.CogVideoXVideoToVideoPipeline,
        {"video": CLIPS, "strength": 0.7},
        ("num_frames",),
        vae=video.cogvideox_autoencoder,
    ),
    like(
        HUNYUAN,
        "image to video",
        diffusers.HunyuanVideoImageToVideoPipeline,
        {name: value[:1] for name, value in HUNYUAN.inputs().items() if isinstance(value, torch.Tensor)}
        | {"image": PICTURES[:1]},
        vae=video.hunyuan_autoencoder,
        transformer=lambda: video.hunyuan_transformer(9, image_condition_type="latent_concat"),
        image_processor=lambda: None,
    ),
]
