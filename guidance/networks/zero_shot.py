"""Zero-shot classifiers: the image tower of a CLIP model with one text embedding for each class (arXiv 2103.00020).

It guides a text-to-image pipeline towards one of a set of prompts: the class of an image is the index of its prompt in
that set.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional


def class_embeddings(
    embed_texts: Callable[[list[str]], torch.Tensor], classes: Sequence[str], templates: Sequence[str] = ("{}",)
) -> torch.Tensor:
    """(K, D) unit vectors: for each class the mean of the unit embeddings of its prompts, brought to unit length.

    Args:
        embed_texts: texts -> (N, D) embeddings of any length.
        classes: K names of classes, or whole prompts with the template "{}".
        templates: prompts with {} for the class.

    Raises:
        ValueError: fewer than two classes, a class given twice, or a template without {}.
    """
    if len(classes) < 2 or len(set(classes)) != len(classes):
        raise ValueError(f"a zero-shot classifier needs two or more classes, each once, got {list(classes)}")
    if wrong := [template for template in templates if "{}" not in template]:
        raise ValueError(f"a template must contain {{}} for the class, got {wrong[0]!r}")
    means = []
    for name in classes:  # one class at a time: a thousand classes with eighty templates would not fit in memory
        embeddings = embed_texts([template.replace("{}", name) for template in templates])
        means.append(functional.normalize(embeddings.float(), dim=-1).mean(0))
    return functional.normalize(torch.stack(means), dim=-1)


class ZeroShot(nn.Module):
    """Images (B, 3, H, W) prepared for the image tower -> logits (B, K): scaled cosines with the classes.

    Args:
        tower: images -> embeddings (B, D), or a tuple that begins with them.
        embeddings: (K, D) unit vectors, see `class_embeddings`.
        scale: factor on the cosines, 100 for CLIP; the inverse of the temperature that training ended with.
    """

    embeddings: torch.Tensor

    def __init__(self, tower: nn.Module, embeddings: torch.Tensor, scale: float):
        super().__init__()
        self.tower, self.scale = tower, scale
        self.register_buffer("embeddings", embeddings.detach().clone())

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.tower(images)
        features = features[0] if isinstance(features, tuple) else features
        return self.scale * functional.normalize(features, dim=-1) @ self.embeddings.T.to(features.dtype)
