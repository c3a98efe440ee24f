"""The families of diffusers' pipelines, checked by runs; docs/families.md shows the results, and what was not run."""

from . import formulas
from .base import Family
from .layout import Layout


_SCALE = "guidance_scale above 1 in the pipeline's call"
_TRUE_CFG = "true_cfg_scale above 1 and negative_prompt in the pipeline's call"

FAMILIES = [
    Family(
        pipelines=(
            *("StableDiffusionPipeline", "StableDiffusionImg2ImgPipeline", "StableDiffusionInpaintPipeline"),
            *("StableDiffusionUpscalePipeline", "StableDiffusionControlNetPipeline"),
            *("StableDiffusionControlNetImg2ImgPipeline", "StableDiffusionControlNetInpaintPipeline"),
            *("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "StableDiffusionXLInpaintPipeline"),
            *("StableDiffusionXLControlNetPipeline", "StableDiffusionXLControlNetImg2ImgPipeline"),
            *("StableDiffusionXLControlNetInpaintPipeline",),
        ),
        denoiser="unet",
        sample="sample",
        enable=_SCALE,
        weight="guidance_scale",
        post_processing=formulas.GUIDANCE_RESCALE,
    ),
    Family(
        pipelines=(
            *("StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"),
            *("StableDiffusion3ControlNetPipeline", "StableDiffusion3ControlNetInpaintingPipeline"),
        ),
        denoiser="transformer",
        enable=_SCALE,
        weight="guidance_scale",
        aside=("skip_layers",),
        post_processing=formulas.SKIP_LAYERS,
    ),
    Family(
        pipelines=("DiTPipeline",),
        denoiser="transformer",
        enable=_SCALE,
        cond_first=True,
        doubled=True,
        guided=formulas.dit_guided,
    ),
    Family(pipelines=("PixArtAlphaPipeline", "PixArtSigmaPipeline"), denoiser="transformer", enable=_SCALE),
    Family(
        pipelines=("SanaPipeline",),
        denoiser="transformer",
        enable=_SCALE,
        weight="guidance_scale",
        time=formulas.sana_time,
    ),
    Family(
        pipelines=("SanaControlNetPipeline",),  # does not scale the time
        denoiser="transformer",
        enable=_SCALE,
        weight="guidance_scale",
    ),
    Family(
        pipelines=(
            *("FluxPipeline", "FluxImg2ImgPipeline", "FluxInpaintPipeline", "FluxControlNetPipeline"),
            *("FluxKontextPipeline", "FluxKontextInpaintPipeline"),
        ),
        denoiser="transformer",
        enable=_TRUE_CFG,
        calls=2,
        cond_first=True,
        time=formulas.per_mille,
    ),
    Family(
        pipelines=(
            *("QwenImagePipeline", "QwenImageImg2ImgPipeline", "QwenImageInpaintPipeline"),
            *("QwenImageControlNetPipeline", "QwenImageControlNetInpaintPipeline", "QwenImageEditPipeline"),
            *("QwenImageEditInpaintPipeline", "QwenImageEditPlusPipeline"),
        ),
        denoiser="transformer",
        enable=_TRUE_CFG,
        calls=2,
        cond_first=True,
        time=formulas.per_mille,
        weight=formulas.direction_weight,
        post_processing=formulas.TOKEN_NORM,
    ),
    Family(
        pipelines=("Lumina2Pipeline",),
        denoiser="transformer",
        enable=_SCALE,
        calls=2,
        cond_first=True,
        negated=True,
        time=formulas.reversed_time,
        weight="guidance_scale",
        post_processing=formulas.ROW_NORM,
    ),
    Family(
        pipelines=(
            *("ZImagePipeline", "ZImageImg2ImgPipeline", "ZImageInpaintPipeline", "ZImageControlNetPipeline"),
            *("ZImageControlNetInpaintPipeline",),
        ),
        denoiser="transformer",
        sample="x",
        timestep="t",
        enable="guidance_scale above 0 in the pipeline's call",
        cond_first=True,
        negated=True,
        listed=True,
        inside=Layout(squeeze=2),
        outside=Layout(squeeze=2),
        time=formulas.reversed_per_mille,
        weight=formulas.z_image_weight,
        post_processing=formulas.NORM_LIMIT,
    ),
    Family(
        pipelines=("WanPipeline", "WanImageToVideoPipeline", "WanVideoToVideoPipeline", "WanVACEPipeline"),
        denoiser="transformer",
        second_denoiser="transformer_2",
        enable=_SCALE,
        calls=2,
        cond_first=True,
        weight=formulas.wan_weight,
    ),
    Family(
        pipelines=("HunyuanVideoPipeline", "HunyuanVideoImageToVideoPipeline"),
        denoiser="transformer",
        enable=_TRUE_CFG,
        calls=2,
        cond_first=True,
    ),
    Family(
        pipelines=("LTXPipeline",),
        denoiser="transformer",
        enable=_SCALE,
        weight="guidance_scale",
        post_processing=formulas.GUIDANCE_RESCALE,
    ),
    Family(
        pipelines=("CogVideoXPipeline", "CogVideoXImageToVideoPipeline", "CogVideoXVideoToVideoPipeline"),
        denoiser="transformer",
        enable=_SCALE,
        weight="guidance_scale",
    ),
    Family(pipelines=("StableAudioPipeline",), denoiser="transformer", enable=_SCALE),
    Family(pipelines=("AudioLDM2Pipeline",), denoiser="unet", sample="sample", enable=_SCALE),
]
