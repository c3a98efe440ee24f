"""CFGNorm: guidance may not lengthen a token beyond the conditional prediction (Qwen-Image; a node of ComfyUI)."""

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import check_pair, widened
from ..core.step import Step


SPACES = ("prediction", "x0")


def cfg_norm(prediction: torch.Tensor, cond: torch.Tensor, amount: float = 1.0) -> torch.Tensor:
    """`prediction * min(1, norm(cond) / norm(prediction))`, with a norm for each token.

    A token is the vector of channels at one place: the last dimension of packed latents (B, N, C), dimension 1 of
    (B, C, H, W) and (B, C, F, H, W). A sample (B, N) is one token.

    Args:
        prediction, cond: (B, ...) of one shape, predictions or estimates x0.
        amount: 0 to 1, how much of the change is made.

    Returns:
        (B, ...) in float32 (float64 for float64).

    Raises:
        ValueError: shapes that differ.
    """
    check_pair(prediction, cond)
    channels = 1 if prediction.ndim != 3 else 2
    prediction = widened(prediction)
    norms = [torch.linalg.vector_norm(x, dim=channels, keepdim=True) for x in (widened(cond), prediction)]
    factor = (norms[0] / norms[1].clamp_min(1e-12)).clamp_max(1)
    return prediction * (1 + amount * (factor - 1))


class CFGNorm(Callback):
    """Keeps every token of the guided prediction at most as long as in the conditional one.

    It limits what stands before it in the list by `cfg_norm`, without a further evaluation: `[CFG(5.0), CFGNorm()]`.
    Pipelines that do this themselves (QwenImage) do it after the callbacks, and without the limit of 1.

    Neutral: `amount=0`.
    Source: Qwen-Image.

    Args:
        amount: see `cfg_norm`; 0 changes nothing, to the bit.
        space: "prediction", as Qwen-Image's; or "x0", as ComfyUI's node.
        start, stop: see `Callback`.

    Raises:
        ValueError: `amount` outside [0, 1], or an unknown space.
    """

    passes_on = True
    words = {"space": SPACES}  # noqa: RUF012 (see Callback)

    @register_to_config
    def __init__(self, amount: float = 1.0, space: str = "prediction", start: float = 0.0, stop: float = 1.0):
        super().__init__(start, stop)
        if not 0 <= amount <= 1:
            raise ValueError(f"amount must be in [0, 1], got {amount}")
        if space not in SPACES:
            raise ValueError(f"space must be one of {', '.join(SPACES)}, got {space!r}")
        self.amount, self.space = amount, space

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        prediction = proceed(step)
        if not self.amount:
            return prediction
        if self.space == "prediction":
            return cfg_norm(prediction, step.cond, self.amount).to(prediction.dtype)
        limited = cfg_norm(step.to_x0(prediction), step.to_x0(step.cond), self.amount)
        return step.from_x0(limited).to(prediction.dtype)
