"""One network of a pipeline, run on the prompt and on the negative prompt."""

import inspect
from collections.abc import Callable
from typing import Any

import torch

from ...attachment.halves import half_of
from ...attachment.replacement import Replacement
from .attentions import Attentions
from .batch import doubled, padded
from .prompt import NegativePrompt


TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-4}  # between two halves that hold the same image; else 2e-2


class GuidedNetwork:
    """Stands in for the `forward` of `network` until `remove`.

    Args:
        network: a denoiser of diffusers.
        prompt: where the negative prompt is from.
        guide: see `Attentions`.
        is_ours: whether the call that is being made is the pipeline's, or a callback's.

    Attributes:
        on: whether the next call is guided.
        guided: whether any was.

    Raises:
        ValueError: a compiled network, whose attentions cannot be reached; see also `Attentions`.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        prompt: NegativePrompt,
        guide: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        is_ours: Callable[[], bool],
    ):
        if hasattr(network, "_orig_mod") or getattr(network, "_compiled_call_impl", None) is not None:
            raise ValueError(f"this {type(network).__name__} is compiled, and NAG has to change its attentions")
        self.network, self._prompt, self._is_ours = network, prompt, is_ours
        self.on, self.guided = False, False
        self._names = tuple(inspect.signature(network.forward).parameters)
        self._name: str | None = None
        self._mask: str | None = None
        self._checked = False
        self._of: torch.Tensor | None = None  # the prompt for which the names were found
        self._attentions = Attentions(network, guide)
        self._replaced = Replacement(network, "forward", self._forward).install()

    def remove(self) -> None:
        self._replaced.undo()
        self._attentions.remove()

    def _forward(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        negative = self._prompt.negative
        if not self.on or negative is None or not self._is_ours():
            return original(*args, **kwargs)
        arguments = dict(zip(self._names, args, strict=False)) | kwargs
        self._look(arguments)
        if self._name is None:
            return original(*args, **kwargs)
        self.guided = True
        positive = arguments[self._name]
        negative = negative.to(positive)
        if self._checked and self._attentions.only_crossed and self._mask is None:
            with self._attentions.crossed(positive, negative):
                return original(**arguments)
        text, masks = self._texts(arguments, positive, negative)
        return self._both(original, doubled(arguments, len(negative)) | {self._name: text} | masks, text)

    def _look(self, arguments: dict) -> None:
        """Find where the prompt is, once for each."""
        if self._of is not self._prompt.positive:
            self._of = self._prompt.positive
            self._name = self._prompt.argument(arguments)
            self._mask = self._prompt.mask_argument(arguments)

    def _both(self, original: Callable, arguments: dict, text: torch.Tensor) -> Any:
        count = len(text) // 2
        image = arguments.get("hidden_states")
        tokens = image.shape[1] if image is not None and image.ndim == 3 else None
        with self._attentions.both(text, tokens):
            output = original(**arguments)
        if not self._checked:
            self._check(output, count)
        return half_of(output, 2 * count, 0)

    def _texts(self, arguments: dict, positive: torch.Tensor, negative: torch.Tensor) -> tuple[torch.Tensor, dict]:
        """Both prompts in one batch, and their masks; the shorter one is padded."""
        prompt, mask = self._prompt, self._mask
        if positive.shape[1] == negative.shape[1] and prompt.positive_mask is None and prompt.negative_mask is None:
            return torch.cat([positive, negative]), {}
        mask = mask or next((name for name in (f"{self._name}_mask",) if name in self._names), None)
        if mask is None:
            raise ValueError(
                f"the negative prompt has {negative.shape[1]} tokens and the prompt {positive.shape[1]}, and "
                f"{type(self.network).__name__} takes no mask of tokens; pad one of them to the other's length"
            )
        length = max(positive.shape[1], negative.shape[1])
        given = arguments.get(mask)
        both = [given if given is not None else prompt.positive_mask, prompt.negative_mask]
        kind = next((value.dtype for value in both if value is not None), torch.bool)
        texts, masks = (positive, negative), []
        for value, text in zip(both, texts, strict=True):
            full = text.new_ones(text.shape[:2]) if value is None else value
            masks.append(padded(full.to(text.device, kind), length))
        return torch.cat([padded(text, length) for text in texts]), {mask: torch.cat(masks)}

    def _check(self, output: Any, count: int) -> None:
        """Both halves saw the same image in every layer, unless text reached it past the attentions that are known.
        Waits for the device, in the first step alone."""
        prediction = output if isinstance(output, torch.Tensor) else output[0]
        one, other = prediction[:count].float(), prediction[count:].float()
        bound = TOLERANCE.get(prediction.dtype, 2e-2) * float(one.abs().max())
        if not float((one - other).abs().max()) <= bound:
            raise ValueError(
                f"in {type(self.network).__name__} text reaches the image past the attentions that NAG knows, so it "
                "would guide a part of them only"
            )
        self._checked = True
