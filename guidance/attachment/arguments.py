"""Arguments of a network, compared and cut in halves."""

import torch


# What networks of diffusers are given once for each sample; anything else of that length is not understood.
_PER_SAMPLE = {
    "sample", "hidden_states", "latent_model_input", "x", "timestep", "timesteps", "t", "class_labels",
    "encoder_hidden_states", "encoder_hidden_states_2", "encoder_hidden_states_t5", "encoder_hidden_states_image",
    "encoder_attention_mask", "encoder_hidden_states_mask", "encoder_attention_mask_2", "attention_mask",
    "pooled_projections", "pooled_projection", "text_embedding_mask", "text_embedding_mask_t5", "text_embeds",
    "time_ids", "image_embeds", "guidance", "resolution", "aspect_ratio", "timestep_cond", "labels",
    "down_block_additional_residuals", "mid_block_additional_residual", "down_intrablock_additional_residuals",
    "block_controlnet_hidden_states", "controlnet_block_samples", "image_meta_size", "style", "added_cond_kwargs",
}  # fmt: skip
# What they are given once for all samples, of any length.
_SHARED = {"img_ids", "txt_ids", "image_rotary_emb", "rotary_emb", "freqs_cis", "rope_interpolation_scale"}


class UnknownArgument(ValueError):
    """It is not known whether an argument belongs to each sample."""


def half(arguments: dict, size: int, first: bool) -> dict:
    """`arguments` of a call for `size` samples, cut to its first half, or its second.

    Raises:
        UnknownArgument: one is not understood.
    """
    return {name: _half(name, value, size, first) for name, value in arguments.items()}


def _half(name: str, value, size: int, first: bool):
    if isinstance(value, dict):
        return {key: _half(key, entry, size, first) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_half(name, entry, size, first) for entry in value)
    if not isinstance(value, torch.Tensor) or value.ndim == 0 or name in _SHARED:
        return value
    if name not in _PER_SAMPLE or len(value) not in (1, size):
        raise UnknownArgument(name)
    return value if len(value) == 1 and size > 1 else value.chunk(2)[0 if first else 1]


def same(one, other) -> bool:
    """Whether two calls' arguments are equal to rounding. Waits for the device, once, where tensors are not the very
    same."""
    unlike: list[torch.Tensor] = []
    if not _alike(one, other, unlike):
        return False
    return not unlike or not bool(torch.stack([each.to(unlike[0].device) for each in unlike]).any())


def _alike(one, other, unlike: list[torch.Tensor]) -> bool:
    if one is other:
        return True
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
            return False
        unlike.append(_unlike(one, other))
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(value, other[name], unlike) for name, value in one.items())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(lambda a, b: _alike(a, b, unlike), one, other))
    return type(one) is type(other) and bool(one == other)


def _unlike(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    if not one.is_floating_point():
        return (one != other).any()
    near = 4 * torch.finfo(one.dtype).eps * one.abs().amax()
    return ~((one - other).abs().amax() <= near)


def versions(arguments) -> list[tuple[torch.Tensor, int]]:
    """All tensors in `arguments`, and how often each was changed in place."""
    if isinstance(arguments, torch.Tensor):
        return [] if arguments.is_inference() else [(arguments, arguments._version)]
    if isinstance(arguments, dict):
        arguments = arguments.values()
    elif not isinstance(arguments, list | tuple):
        return []
    return [version for entry in arguments for version in versions(entry)]
