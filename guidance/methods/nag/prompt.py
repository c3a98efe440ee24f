"""The negative prompt, encoded as the pipeline encodes its prompt, at the moment when it does so."""

import inspect
from collections.abc import Callable

import torch

from ...attachment.caller import running
from ...attachment.replacement import Replacement


class NegativePrompt:
    """Watches `pipe.encode_prompt`, and has it encode the negative prompt with the same arguments.

    Args:
        pipe: its `encode_prompt` is replaced until `remove`.
        text: the negative prompt.
        embeddings: (1 or B, tokens, channels) instead of `text`.
        begin: called for each new prompt.

    Attributes:
        positive, negative: (B, tokens, channels) of the latest call; None before.
        positive_mask, negative_mask: (B, tokens), or None where the encoder gave none.

    Raises:
        ValueError: the pipeline has no `encode_prompt`.
    """

    def __init__(self, pipe, text: str, embeddings: torch.Tensor | None, begin: Callable[[], None]):
        if not callable(getattr(pipe, "encode_prompt", None)):
            raise ValueError(
                f"{type(pipe).__name__} has no encode_prompt with which NAG could encode a negative prompt"
            )
        self.pipe, self._text, self._embeddings, self._begin = pipe, text, embeddings, begin
        self.positive: torch.Tensor | None = None
        self.negative: torch.Tensor | None = None
        self.positive_mask: torch.Tensor | None = None
        self.negative_mask: torch.Tensor | None = None
        self._replaced = Replacement(pipe, "encode_prompt", self._encode).install()

    def remove(self) -> None:
        self._replaced.undo()

    def argument(self, arguments: dict) -> str | None:
        """The name of the network's argument that holds the embeddings of the prompt. It compares values, so it is
        asked once a run."""
        return _holding(self.positive, arguments)

    def mask_argument(self, arguments: dict) -> str | None:
        return _holding(self.positive_mask, arguments)

    def _encode(self, original: Callable, *args, **kwargs):
        result = original(*args, **kwargs)
        if running(self.pipe) is not self.pipe:
            return result  # the user's own call
        positive = _embeddings(result)
        if positive is None:
            raise ValueError(
                f"{type(self.pipe).__name__}.encode_prompt gave no embeddings of shape (batch, tokens, channels), "
                "which NAG needs"
            )
        self.positive, self.positive_mask = positive
        negative = self._embeddings, None
        if self._embeddings is None:
            bound = inspect.signature(original).bind(*args, **kwargs).arguments
            negative = _embeddings(original(**_for(self._text, bound)))
        self.negative, self.negative_mask = (_rows(value, len(self.positive)) for value in negative)
        self._begin()
        return result


def _for(text: str, arguments: dict) -> dict:
    """The arguments of `encode_prompt` that encode `text` once instead."""
    changed: dict[str, object] = {}
    for name, value in arguments.items():
        if name in ("prompt", "prompt_2", "prompt_3"):
            changed[name] = None if value is None and name != "prompt" else [text]
        elif name == "do_classifier_free_guidance":
            changed[name] = False
        elif not (name.startswith("negative_") or "embeds" in name or "mask" in name):
            changed[name] = value
    return changed


def _rows(value: torch.Tensor | None, count: int) -> torch.Tensor | None:
    """`value` for `count` samples: of several that one encoder call made, all are the same."""
    return None if value is None else value[:1].expand(count, *value.shape[1:])


def _embeddings(result) -> tuple[torch.Tensor, torch.Tensor | None] | None:
    """The first embeddings of what `encode_prompt` returned, those of the prompt, and the mask that belongs to them."""
    values = [
        value for value in (result if isinstance(result, tuple) else (result,)) if isinstance(value, torch.Tensor)
    ]
    found = next((value for value in values if value.ndim == 3 and value.is_floating_point()), None)
    if found is None:
        return None
    masks = (value for value in values if value.shape == found.shape[:2] and not value.is_floating_point())
    return found, next(masks, None)


def _holding(wanted: torch.Tensor | None, arguments: dict) -> str | None:
    if wanted is None:
        return None
    for name, value in arguments.items():
        if value is wanted:
            return name
        alike = isinstance(value, torch.Tensor) and value.shape == wanted.shape and value.device == wanted.device
        if alike and torch.equal(value, wanted.to(value.dtype)):
            return name
    return None
