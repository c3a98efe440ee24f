"""The shipped worlds as subjects of a study: what is drawn for each seed, how it is judged, and the reference."""

from functools import partial
from pathlib import Path

import torch

from ..networks.extractors import Extractor
from ..networks.weights import weights_sha256
from ..worlds import digits_measure, emoji_measure, shapes_measure
from ..worlds.digits_classifier import DigitsClassifier
from ..worlds.emoji_judge import EmojiJudge
from ..worlds.shapes_classifier import ShapesClassifier
from ..worlds.shipped import WORLDS
from .sources import Reference, read_statistics
from .study import Subject


def load_subject(
    world: str,
    assets: Path,
    device: str | torch.device = "cpu",
    reference: Reference | None = None,
    scenes: int | None = None,
    extractor: Extractor | None = None,
) -> Subject:
    """The subject of `world`, judged by its classifier in `assets`.

    Args:
        world: "shapes" or "emoji" (alignment, Frechet distance), or "digits" (accuracy, Frechet distance).
        reference: in place of the world's own: stored moments of 20,000 scenes or of 2,289 real emoji, or all 1797 real
            digits.
        scenes: how many scenes of the shapes world to draw as its reference, with features, which all metrics except
            the Frechet distance need. A thousand take about a second on one core.
        extractor: of the emoji world, for features in place of the judge's; its own reference is of `lite0`.

    Raises:
        ValueError: another world, or no classifier in `assets`.
    """
    judge, folder = _load_judge(world, assets, device)
    identity = {"name": folder.name, "weights": weights_sha256(judge)}
    if world == "emoji":
        settings = {"conditions": "of the emoji world", "judge": identity}
        settings["extractor"] = identity if extractor is None else extractor.identity
        stored = emoji_measure.REFERENCE if extractor is None else emoji_measure.FEATURES
        reference = reference or read_statistics(folder / stored)
        measure = partial(emoji_measure.measure, judge, extractor=extractor)
        return Subject(partial(emoji_measure.caption, judge), measure, reference, settings, {"max_sequence_length": 1})
    measure = partial({"shapes": shapes_measure, "digits": digits_measure}[world].measure, judge)
    settings = {"conditions": f"of the {world} world", "extractor": identity}
    if isinstance(judge, DigitsClassifier):
        reference = reference or Reference.of(digits_measure.real_features(judge))
        return Subject(digits_measure.label, measure, reference, settings)
    if scenes is not None:
        reference = reference or Reference.of(shapes_measure.real_features(judge, scenes))
    reference = reference or read_statistics(folder / shapes_measure.REFERENCE)
    return Subject(shapes_measure.caption, measure, reference, settings, {"max_sequence_length": 1})


def load_world_extractor(world: str, assets: Path, device: str | torch.device = "cpu") -> Extractor:
    """The classifier of `world` as an extractor of images (B, 3, H, W) of its size: 32, 8 or 64 pixels per side.

    Raises:
        ValueError: another world, or no classifier in `assets`.
    """
    judge, folder = _load_judge(world, assets, device)

    def features(images: torch.Tensor) -> torch.Tensor:
        if images.shape[-2:] != (size, size):
            raise ValueError(f"images of the {world} world have {size} pixels per side, got {tuple(images.shape[-2:])}")
        return judge.features(images.mean(1, keepdim=True) * 2 - 1 if world == "digits" else images)

    size = {"shapes": 32, "digits": 8, "emoji": 64}[world]
    return Extractor(folder.name, features, device=device, weights=judge)


def _load_judge(
    world: str, assets: Path, device: str | torch.device
) -> tuple[DigitsClassifier | ShapesClassifier, Path]:
    if world not in WORLDS:
        raise ValueError(f"there is no world {world!r}; there are {', '.join(WORLDS)}")
    kind, name, script = {
        "shapes": (ShapesClassifier, "shapes-classifier", "shapes"),
        "digits": (DigitsClassifier, "digits-judge", "digits"),
        "emoji": (EmojiJudge, "emoji-judge", "emoji_judge"),
    }[world]
    folder = Path(assets) / name
    if not folder.is_dir():
        raise ValueError(f"{folder} is not there; python -m scripts.training.{script} makes it")
    return kind.from_pretrained(folder).eval().to(device), folder
