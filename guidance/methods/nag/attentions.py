"""The attentions of a network through which text reaches the image, and the changes to their outputs."""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from ...attachment.replacement import Replacement


Mix = Callable[[torch.Tensor], torch.Tensor]


class Attentions:
    """Stands in for the attentions of `network` until `remove`, and does nothing outside of `both` and `crossed`.

    The output of attention is changed before the output projection (`to_out`), whatever processor computes it.

    Args:
        network: of diffusers.
        guide: what to make of (positive, negative).

    Attributes:
        only_crossed: whether in the last `both` the text reached the image by cross attention alone, and unchanged, so
            that `crossed` does the same.

    Raises:
        ValueError: none of its attentions is known.
    """

    def __init__(self, network: torch.nn.Module, guide: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]):
        self._guide = guide
        self._local = threading.local()  # a network may serve several threads
        self.only_crossed = False
        self._replaced: list[Replacement] = []
        for part in _attentions(network):
            attend = partial(self._attend, part, tuple(inspect.signature(part.forward).parameters))
            self._replaced.append(Replacement(part, "forward", attend).install())
            if _projection(part) is not None:
                self._replaced.append(Replacement(_projection(part), "forward", self._project).install())
        if not self._replaced:
            raise ValueError(f"{type(network).__name__} has no attention of diffusers, in which NAG could guide")

    def remove(self) -> None:
        for replaced in reversed(self._replaced):
            replaced.undo()

    @contextmanager
    def both(self, text: torch.Tensor, image_tokens: int | None) -> Iterator[None]:
        """The batch holds every sample twice: with the prompt, and with the negative prompt.

        Args:
            text: (2B, tokens, channels) as the network is given it.
            image_tokens: how many of them a sample has, where it is given as tokens.
        """
        self.only_crossed = True
        self._local.state = (self._attend_both, (text, image_tokens))
        try:
            yield
        finally:
            self._local.state = None

    @contextmanager
    def crossed(self, positive: torch.Tensor, negative: torch.Tensor) -> Iterator[None]:
        """Cross attention looks at both prompts, everything else runs once."""
        self._local.state = (self._attend_crossed, (positive, negative))
        try:
            yield
        finally:
            self._local.state = None

    def _attend(
        self, part: torch.nn.Module, names: tuple[str, ...], original: Callable, *args: Any, **kwargs: Any
    ) -> Any:
        state = getattr(self._local, "state", None)
        if state is None:
            return original(*args, **kwargs)
        attend, given = state
        return attend(part, original, dict(zip(names, args, strict=False)) | kwargs, *given)

    def _attend_both(
        self, part: torch.nn.Module, original: Callable, arguments: dict, text: torch.Tensor, image_tokens: int | None
    ) -> Any:
        states, own = arguments["hidden_states"], arguments.get("encoder_hidden_states")
        tokens = states.shape[1]  # of the image
        if own is None or own is states:
            if image_tokens is None or tokens != text.shape[1] + image_tokens:
                return original(**arguments)  # of the image, or of the text, to itself
            tokens = image_tokens

        def mix(found: torch.Tensor) -> torch.Tensor:
            return self._halves(found, found.shape[1] - tokens)

        if _projection(part) is not None:
            result = self._mixing(mix, original, arguments)
        else:
            result = original(**arguments)
            result = (mix(result[0]), *result[1:]) if isinstance(result, tuple) else mix(result)
        self.only_crossed &= own is text and isinstance(result, torch.Tensor)
        return result

    def _attend_crossed(
        self, part: torch.nn.Module, original: Callable, arguments: dict, positive: torch.Tensor, negative: torch.Tensor
    ) -> Any:
        if arguments.get("encoder_hidden_states") is not positive:
            return original(**arguments)
        found: list[torch.Tensor] = []

        def keep(one: torch.Tensor) -> torch.Tensor:
            found.append(one)
            return one

        self._mixing(keep, original, arguments | {"encoder_hidden_states": negative})
        return self._mixing(lambda one: self._guide(one, found.pop()), original, arguments)

    def _halves(self, found: torch.Tensor, first: int) -> torch.Tensor:
        """Both halves of the batch go on with the same image; the `first` tokens are of text, and each half's own."""
        guided = self._guide(*found[:, first:].chunk(2))
        return torch.cat([found[:, :first], torch.cat([guided, guided])], 1)

    def _mixing(self, mix: Mix, original: Callable, arguments: dict) -> Any:
        self._local.mix = mix
        try:
            return original(**arguments)
        finally:
            self._local.mix = None

    def _project(self, original: Callable, found: torch.Tensor) -> torch.Tensor:
        mix = getattr(self._local, "mix", None)
        return original(found if mix is None else mix(found))


def _attentions(network: torch.nn.Module) -> list[torch.nn.Module]:
    from diffusers.models.attention import AttentionModuleMixin
    from diffusers.models.attention_processor import Attention

    return [part for part in network.modules() if isinstance(part, Attention | AttentionModuleMixin)]


def _projection(part: torch.nn.Module) -> torch.nn.Module | None:
    """The first layer after attention proper."""
    out = getattr(part, "to_out", None)
    return out[0] if isinstance(out, torch.nn.ModuleList | torch.nn.Sequential) and len(out) else None
