"""NAG: normalized attention guidance (arXiv 2505.21179), negative prompts for calls without classifier-free guidance.

Few-step, distilled and guidance-embedded models run no unconditional pass, so a negative prompt has no effect. NAG
applies it in attention: the output for the prompt is pushed away from the output for the negative prompt, with its norm
bounded.
"""

import math
from collections.abc import Callable
from functools import partial

import torch
from diffusers.configuration_utils import register_to_config

from ...core.callback import Callback, Proceed
from ...core.protocols import Pipeline
from ...core.step import Step
from .network import GuidedNetwork
from .normalized import normalized_attention
from .prompt import NegativePrompt


class NAG(Callback):
    """Guides away from a negative prompt in attention, without classifier-free guidance (see `normalized_attention`).

    The prediction itself is passed on, so other callbacks see and change it as usual. Where text reaches the image by
    cross attention alone (Stable Diffusion, SDXL), only that runs twice, from the second step on; elsewhere (SD3, Flux,
    QwenImage, Wan) the whole network runs on both prompts in one batch, at the cost of classifier-free guidance. The
    pooled embeddings and the modulation are the prompt's; the authors' code modulates the negative text by its own.

    Neutral: `scale=1`.

    Args:
        negative_prompt: encoded by the pipeline's own `encode_prompt`, at the moment when it encodes the prompt.
        scale: 1 changes nothing, to the bit. As in the authors' code: the paper's scale plus 1.
        tau, alpha: see `normalized_attention`.
        negative_prompt_embeds: (1 or B, tokens, channels) instead of `negative_prompt`, as `encode_prompt` gives them.
        start, stop: see `Callback`. The window is decided after each step for the next; a start above 0 leaves out at
            least the first.

    Raises:
        ValueError: an argument out of range; when attached, a pipeline without `encode_prompt` or without an attention
            that is known; when called, a network whose arguments do not hold the prompt's embeddings, one in which
            text reaches the image elsewhere too, and a pipeline that guides by itself.
        RuntimeError: attached to a second pipeline at once.
    """

    passes_on = True
    asks = True  # see `core.order`
    words = {"negative_prompt": ("",)}  # noqa: RUF012 (see Callback)

    @register_to_config
    def __init__(
        self,
        negative_prompt: str = "",
        scale: float = 5.0,
        tau: float = 2.5,
        alpha: float = 0.25,
        negative_prompt_embeds: torch.Tensor | None = None,
        start: float = 0.0,
        stop: float = 1.0,
    ):
        super().__init__(start, stop)
        if not (math.isfinite(scale) and scale >= 1 and math.isfinite(tau) and tau > 0 and 0 <= alpha <= 1):
            raise ValueError(f"scale >= 1, tau > 0 and 0 <= alpha <= 1, got {scale}, {tau} and {alpha}")
        self.negative_prompt, self.negative_prompt_embeds = negative_prompt, negative_prompt_embeds
        self.scale, self.tau, self.alpha = scale, tau, alpha
        self._prompt: NegativePrompt | None = None
        self._networks: list[GuidedNetwork] = []

    def install(self, pipe: Pipeline, is_ours: Callable[[], bool]) -> Callable[[], None]:
        """Called by `attach`: see `Callback.install`."""
        if self._prompt is not None:
            raise RuntimeError("this NAG is attached to a pipeline already; make one for each")
        if self.scale == 1:
            return _nothing
        guide = partial(normalized_attention, scale=self.scale, tau=self.tau, alpha=self.alpha)
        try:
            self._prompt = NegativePrompt(pipe, self.negative_prompt, self.negative_prompt_embeds, self._begin)
            for network in _denoisers(pipe):
                self._networks.append(GuidedNetwork(network, self._prompt, guide, is_ours))
            if not self._networks:
                raise ValueError(f"{type(pipe).__name__} has no network that is called with encoder_hidden_states")
        except BaseException:
            self._remove()
            raise
        return self._remove

    def __call__(self, step: Step, proceed: Proceed) -> torch.Tensor:
        if self._networks:
            self._check(step)
            after = step.index + 1
            self._switch(int(self.start * step.total) <= after < int(self.stop * step.total))
        return proceed(step)

    def _begin(self) -> None:
        self._switch(self.start == 0 < self.stop)

    def _switch(self, on: bool) -> None:
        for network in self._networks:
            network.on = on

    def _check(self, step: Step) -> None:
        if step.has_unconditional:
            raise ValueError(
                "NAG is for calls without classifier-free guidance, and this one runs the unconditional pass; set its "
                "guidance scale so that it does not, or give the negative prompt to the pipeline"
            )
        if self.start == 0 and step.index == 0 and not any(network.guided for network in self._networks):
            raise ValueError(
                "NAG had no effect: no argument of the network is what the pipeline's encode_prompt returned; pass the "
                "prompt to the pipeline's call itself"
            )

    def _remove(self) -> None:
        for network in self._networks:
            network.remove()
        if self._prompt is not None:
            self._prompt.remove()
        self._prompt, self._networks = None, []


def _nothing() -> None:
    """Nothing was installed."""


def _denoisers(pipe: Pipeline) -> list[torch.nn.Module]:
    """The networks of `pipe` that look at a text while they denoise."""
    import inspect

    from diffusers import ModelMixin

    networks = [part for part in vars(pipe).values() if isinstance(part, ModelMixin)]
    return [part for part in networks if "encoder_hidden_states" in inspect.signature(part.forward).parameters]
