"""Conversions between what networks predict: noise eps, v, the clean sample x0, and flow velocity."""

import torch


PREDICTION_TYPES = ("epsilon", "v_prediction", "sample", "flow_prediction")


def to_x0(
    prediction: torch.Tensor, sample: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """Denoised estimate from any parameterization, for `sample = alpha * x0 + sigma * eps`, in float32.

    `v_prediction` is the v of progressive distillation (arXiv 2202.00512) of the sample scaled to unit variance, which
    is what variance-exploding samplers pass; `flow_prediction` is eps - x0 (arXiv 2210.02747). Only "epsilon" divides
    by alpha: at alpha = 0 the noise says nothing about the data and the result is not finite.

    Raises:
        ValueError: an unknown prediction type.
    """
    prediction, sample = prediction.float(), sample.float()
    if prediction_type == "epsilon":
        return (sample - sigma * prediction) / alpha
    if prediction_type == "sample":
        return prediction
    if prediction_type == "v_prediction":
        square = alpha * alpha + sigma * sigma
        return alpha / square * sample - sigma / square.sqrt() * prediction
    if prediction_type == "flow_prediction":
        return (sample - sigma * prediction) / (alpha + sigma)
    raise _unknown(prediction_type)


def from_x0(
    x0: torch.Tensor, sample: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, prediction_type: str
) -> torch.Tensor:
    """Inverse of `to_x0` in its first argument. All but "sample" divide by sigma."""
    x0, sample = x0.float(), sample.float()
    if prediction_type == "epsilon":
        return (sample - alpha * x0) / sigma
    if prediction_type == "sample":
        return x0
    if prediction_type == "v_prediction":
        square = alpha * alpha + sigma * sigma
        return (alpha / square * sample - x0) * square.sqrt() / sigma
    if prediction_type == "flow_prediction":
        return (sample - (alpha + sigma) * x0) / sigma
    raise _unknown(prediction_type)


def _unknown(prediction_type: str) -> ValueError:
    return ValueError(f"unknown prediction type {prediction_type!r}; known are {', '.join(PREDICTION_TYPES)}")
