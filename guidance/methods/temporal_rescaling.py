"""Temporal score rescaling: a temperature for the samples, by a factor on the noise that grows as the noise falls
(arXiv 2510.01184). It needs neither a second prediction nor training."""

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import widened
from ..core.step import Step


def rescaling_factor(alpha: torch.Tensor, sigma: torch.Tensor, k: float, variance: float) -> torch.Tensor:
    """`r = (snr * variance + 1) / (snr * variance / k + 1)` with `snr = (alpha / sigma)^2`, 0-d: 1 at pure noise, k at
    the clean sample. For Gaussian data of this variance `r * eps` is exactly the noise of variance / k.

    Args:
        alpha, sigma: 0-d, of the step.
        k: above 1 sharpens, below 1 widens the distribution; 1 leaves it.
        variance: of the data, around the mode that a sample belongs to.
    """
    signal = alpha * alpha * variance
    noise = sigma * sigma
    return (signal + noise) / (signal / k + noise)


def rescaled_estimate(
    x0: torch.Tensor, eps: torch.Tensor, alpha: torch.Tensor, sigma: torch.Tensor, k: float, variance: float
) -> torch.Tensor:
    """The estimate x0 (B, ...) that goes with the noise `r * eps`, in float32, finite also where alpha is 0.

    `x0 - sigma * (r - 1) / alpha * eps`, with (r - 1) / alpha written out.

    Args:
        x0, eps: (B, ...) what the prediction implies: `sample = alpha * x0 + sigma * eps`.
        alpha, sigma, k, variance: see `rescaling_factor`.
    """
    slope = alpha * variance * (1 - 1 / k) / (alpha * alpha * variance / k + sigma * sigma)
    return widened(x0) - sigma * slope * widened(eps)


class TemporalRescaling(Callback):
    """Sets a temperature for the samples, by a factor on the noise.

    It rescales what stands before it in the list, `eps <- r * eps`, without a further evaluation.
    `[TemporalRescaling(k=1.1)]` serves a pipeline that runs without guidance; after `CFG` it acts on the guided
    prediction. Predictions of any kind are turned to noise and back.

    Neutral: `k=1`.

    Args:
        k, variance: see `rescaling_factor`; k = 1 changes nothing, to the bit.
        start, stop: see `Callback`.

    Raises:
        ValueError: `k` or `variance` not above 0.
    """

    passes_on = True

    @register_to_config
    def __init__(self, k: float = 1.05, variance: float = 1.0, start: float = 0.0, stop: float = 1.0):
        super().__init__(start, stop)
        if not (0 < k < float("inf") and 0 < variance < float("inf")):
            raise ValueError(f"k and variance must be finite and above 0, got {k} and {variance}")
        self.k, self.variance = k, variance

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        prediction = proceed(step)
        if self.k == 1:
            return prediction
        if step.prediction_type == "epsilon":
            changed = rescaling_factor(step.alpha, step.sigma, self.k, self.variance) * widened(prediction)
        else:
            x0, eps = step.to_x0(prediction), step.to_eps(prediction)
            changed = step.from_x0(rescaled_estimate(x0, eps, step.alpha, step.sigma, self.k, self.variance))
        return changed.to(prediction.dtype)
