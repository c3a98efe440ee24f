"""A network that looks at images: what it gives, what it is given, and what distinguishes it from others.

There are three ways to call one. `Extractor` gives the features that evaluation compares, `Encoder` takes prepared
images so that a detector can add noise to them, `ImageClassifier` gives the logits that guidance differentiates.
"""

import json
from collections.abc import Callable
from dataclasses import asdict

import torch
from torch import nn

from .preprocessing import Transform, described
from .weights import weights_sha256


class Network(nn.Module):
    """A module, or any function, with its preprocessing and a name.

    Args:
        name: for reports, and part of the identity.
        module: from prepared images (B, C, H, W) to `head` (B, D). It may also return a dict with "features" and
            "logits", or an object with `logits` (transformers). A bound method of a module is a function of it.
        transform: from images to prepared images, or its name.
        head: "features" or "logits": how a plain tensor is taken.
        weights: SHA-256 of the weights, or the module that holds them where `module` does not.
    """

    def __init__(
        self,
        name: str,
        module: Callable,
        transform: Callable[[torch.Tensor], torch.Tensor] | str,
        head: str = "features",
        weights: str | nn.Module | None = None,
    ):
        super().__init__()
        self.name, self.module, self.transform, self.head = name, module, transform, head
        self.training = False
        self._digest = weights if isinstance(weights, str) else None
        holder = weights if isinstance(weights, nn.Module) else getattr(module, "__self__", None)
        # Registered, so that it moves with the network; but only once: replacing layers visits every path.
        self.holder = holder if isinstance(holder, nn.Module) and holder is not module else None

    def run(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        """What the module gives for prepared images (B, C, H, W), outside autocast: "features", "logits" or both.

        Raises:
            ValueError: what `head` names is missing, or is not (B, D).
        """
        with torch.autocast(inputs.device.type, enabled=False):
            output = self.module(inputs)
        if not isinstance(output, dict):
            output = {self.head: output} if isinstance(output, torch.Tensor) else {"logits": output.logits}
        found = output.get(self.head)
        if found is None or found.ndim != 2 or len(found) != len(inputs):
            got = None if found is None else tuple(found.shape)
            raise ValueError(f"{self.name} returned {got} for {len(inputs)} images, not {self.head} (B, D)")
        return output

    def weights_hash(self) -> str | None:
        """SHA-256 of the weights; None for a function. Waits for the device the first time."""
        held = self.module if self.holder is None else self.holder
        return weights_sha256(held) if self._digest is None and isinstance(held, nn.Module) else self._digest

    def preprocessing(self) -> str | dict:
        """What is done to images first, as JSON."""
        if isinstance(self.transform, Transform):
            return json.loads(json.dumps(asdict(self.transform)))
        return described(self.transform)
