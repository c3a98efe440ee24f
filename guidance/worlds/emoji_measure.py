"""Measuring a text-to-image model in the emoji world: a caption for each seed, features and alignment."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..core.files import write_atomic
from .emoji_judge import EmojiJudge


REFERENCE = "reference.safetensors"  # moments of the judge's features of the drawings that its captions name
FEATURES = "lite0.safetensors"  # features of lite0 of the same drawings, in the order of the captions


def caption(judge: EmojiJudge, seed: int) -> str:
    """The caption that belongs to `seed`: those that the checkpoint was trained on, in rotation."""
    return judge.config.captions[seed % len(judge.config.captions)]


@torch.inference_mode()
def aligned(judge: EmojiJudge, images: torch.Tensor, captions: Sequence[str]) -> dict[str, torch.Tensor]:
    """What the judge reads in images (B, 3, 64, 64) in [0, 1] that were drawn for B captions.

    Returns:
        `features` (B, width) float32; and (B,) bool `name`, `style`, `alignment`: whether they, or both, are as asked.
    """
    features = judge.features(images.to(judge.device))
    read = torch.stack([logits.argmax(-1) for logits in judge.heads(features)], dim=1)
    right = read == judge.labels(captions).to(judge.device)
    return {"features": features.float(), "name": right[:, 0], "style": right[:, 1], "alignment": right.all(1)}


def measure(
    judge: EmojiJudge,
    images: torch.Tensor,
    seeds: Sequence[int],
    extractor: Callable[[torch.Tensor], dict[str, torch.Tensor]] | None = None,
) -> dict[str, torch.Tensor]:
    """`aligned` for the captions of B seeds; with an `Extractor`, its features take the place of the judge's."""
    found = aligned(judge, images, [caption(judge, seed) for seed in seeds])
    return found if extractor is None else found | {"features": extractor(images)["features"]}


def save_features(path: Path, features: torch.Tensor, extractor: str) -> Path:
    """Write features (N, D) as float16 and the extractor's identity, as `read_statistics` takes them."""
    tensors = {"features": features.to(torch.float16)}
    return write_atomic(path, lambda temporary: save_file(tensors, temporary, metadata={"extractor": extractor}))
