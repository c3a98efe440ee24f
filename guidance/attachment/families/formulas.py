"""Facts of families that are formulas: the weight, the time argument, and what follows the combination."""

import torch

from ...core.combine import classifier_free_guidance, per_sample, sample_norm
from ...core.protocols import Pipeline
from .base import Evaluation, PostProcessing
from .observed import Call


def per_mille(timestep: torch.Tensor, pipe: Pipeline) -> torch.Tensor:
    """Flux and QwenImage: 1 is noise, 0 is data."""
    return timestep / 1000


def reversed_time(timestep: torch.Tensor, pipe: Pipeline) -> torch.Tensor:
    """Lumina2: 0 is noise, 1 is data."""
    return 1 - timestep / pipe.scheduler.config.num_train_timesteps


def reversed_per_mille(timestep: torch.Tensor, pipe: Pipeline) -> torch.Tensor:
    """Z-Image: 0 is noise, 1 is data."""
    return (1000 - timestep) / 1000


def sana_time(timestep: torch.Tensor, pipe: Pipeline) -> torch.Tensor:
    """Sana: scaled as its network's configuration says."""
    return timestep * pipe.transformer.config.timestep_scale


def dit_guided(call: Call) -> bool:
    """DiT appends one null class (1000) for each label when it guides.

    The labels stand on the device: this is read once a run, before its first step, since neither a shape nor an
    attribute of the pipeline tells.
    """
    labels = call.arguments["class_labels"]
    return len(labels) % 2 == 0 and bool((labels[len(labels) // 2 :] == 1000).all())


def wan_weight(evaluation: Evaluation) -> float:
    """Wan 2.2 has a second weight for its second network."""
    pipe = evaluation.pipe
    return pipe._guidance_scale_2 if evaluation.module is getattr(pipe, "transformer_2", None) else pipe.guidance_scale


def z_image_weight(evaluation: Evaluation) -> float:
    """Z-Image writes cond + scale * (cond - uncond)."""
    return 1 + evaluation.pipe.guidance_scale


def direction_weight(evaluation: Evaluation) -> torch.Tensor:
    """(B,) float32 weight of a combination of which only the direction of each token, (..., C), is left.

    `uncond + w * (cond - uncond)` is parallel to the output in every token, so its part across the output vanishes; w
    is the least-squares solution of that.
    """
    uncond, output = evaluation.uncond.float(), evaluation.output.float()
    axis = torch.nn.functional.normalize(output, dim=-1)
    base, direction = (
        (vector - (vector * axis).sum(-1, keepdim=True) * axis).flatten(1)
        for vector in (uncond, evaluation.cond.float() - uncond)
    )
    square = direction.square().sum(1)
    return torch.where(square > 0, -(base * direction).sum(1) / square.clamp_min(1e-30), 1.0)


def norm_of_cond(prediction: torch.Tensor, evaluation: Evaluation) -> torch.Tensor:
    """Each vector along the last dimension brought to the norm of the conditional one."""
    return _norm_of_cond(prediction, evaluation, -1)


def norm_of_cond_channels(prediction: torch.Tensor, evaluation: Evaluation) -> torch.Tensor:
    """JoyImage-Edit: the same along dimension 2, the channels of its lists of images (B, images, C, ...)."""
    return _norm_of_cond(prediction, evaluation, 2)


def _norm_of_cond(prediction: torch.Tensor, evaluation: Evaluation, dim: int) -> torch.Tensor:
    cond_norm, norm = (torch.norm(x, dim=dim, keepdim=True) for x in (evaluation.cond, prediction))
    return prediction * (cond_norm / norm)


def norm_of_cond_if_used(prediction: torch.Tensor, evaluation: Evaluation) -> torch.Tensor:
    """`norm_of_cond` if the pipeline's own output has that norm: Lumina2 keeps the switch in a local variable."""
    plain = classifier_free_guidance(evaluation.cond, evaluation.uncond, evaluation.pipe.guidance_scale)
    distances = [
        (evaluation.output.float() - other.float()).abs().sum() for other in (plain, norm_of_cond(plain, evaluation))
    ]
    return torch.where(distances[0] < distances[1], prediction, norm_of_cond(prediction, evaluation))


def norm_at_most(prediction: torch.Tensor, evaluation: Evaluation) -> torch.Tensor:
    """Each sample's norm limited to a multiple of the conditional one (Z-Image)."""
    limit = sample_norm(evaluation.cond) * float(evaluation.pipe._cfg_normalization)
    norm = sample_norm(prediction)
    return prediction * per_sample(torch.where(norm > limit, limit / norm, 1.0), prediction).to(prediction.dtype)


def rescaled(prediction: torch.Tensor, evaluation: Evaluation) -> torch.Tensor:
    """The standard deviation brought towards the conditional one (arXiv 2305.08891), by diffusers' own function."""
    from diffusers.guiders.guider_utils import rescale_noise_cfg

    return rescale_noise_cfg(prediction, evaluation.cond, guidance_rescale=evaluation.pipe.guidance_rescale)


def skip_layers_added(prediction: torch.Tensor, evaluation: Evaluation) -> torch.Tensor:
    """Skip-layer guidance: away from the prediction that the network makes without some layers."""
    if not isinstance(evaluation.aside, torch.Tensor):
        return prediction  # nothing was added
    return prediction + (evaluation.cond - evaluation.aside) * evaluation.pipe._skip_layer_guidance_scale


GUIDANCE_RESCALE = PostProcessing(
    "guidance_rescale", rescaled, active=lambda evaluation: getattr(evaluation.pipe, "guidance_rescale", 0) > 0
)
SKIP_LAYERS = PostProcessing(
    "skip_layer_guidance", skip_layers_added, active=lambda evaluation: evaluation.aside is not None
)
TOKEN_NORM = PostProcessing("norm of the conditional prediction, per token", norm_of_cond)
CHANNEL_NORM = PostProcessing(
    "norm of the conditional prediction, per pixel", norm_of_cond_channels, lambda evaluation: evaluation.cond.ndim > 3
)
ROW_NORM = PostProcessing("cfg_normalization", norm_of_cond_if_used)
NORM_LIMIT = PostProcessing(
    "cfg_normalization", norm_at_most, active=lambda evaluation: float(evaluation.pipe._cfg_normalization or 0) > 0
)


def scheduler_time(timestep: torch.Tensor, pipe: Pipeline) -> torch.Tensor:
    """Most: the scheduler's own."""
    return timestep


def one_more(evaluation: Evaluation) -> float:
    """cond + scale * (cond - uncond)."""
    return 1 + evaluation.pipe.guidance_scale


def guider_weight(evaluation: Evaluation) -> float:
    """Pipelines that keep one of diffusers' guiders."""
    return evaluation.pipe.guider.guidance_scale


#: What inference tries: functions of time, and what may follow a combination.
TIMES = (scheduler_time, per_mille, reversed_time, reversed_per_mille, sana_time)
AFTER = (GUIDANCE_RESCALE, TOKEN_NORM, CHANNEL_NORM, NORM_LIMIT)
