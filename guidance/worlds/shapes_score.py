"""Drawing the shapes world under some guidance, and what the pictures score: alignment and Frechet distance."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from ..evaluation import Moments, frechet_distance
from ..generation import Picture, sample
from .shapes_classifier import ShapesClassifier
from .shapes_measure import caption, measure, real_features


REFERENCE = "reference.safetensors"  # moments of real scenes, in the classifier's folder, since they are its features
REFERENCE_SCENES = 20_000


def draw(
    pipe, seeds: Sequence[int], guidance: Sequence, steps: int, batch_size: int = 100, label: str | None = None, **call
) -> torch.Tensor:
    """(N, 3, 32, 32) float32 CPU pictures in [0, 1], one a seed, each of its seed's caption.

    The pipeline's own guidance_scale only switches the unconditional pass on, unless `guidance` is empty.
    """
    call = {"guidance_scale": 2.0, "max_sequence_length": 1} | call
    pictures = [Picture(seed, caption(seed), Path()) for seed in seeds]
    images = []
    for start in tqdm(range(0, len(pictures), batch_size), desc=label, unit="batch", leave=False):
        batch = pictures[start : start + batch_size]
        out = sample(pipe, batch, guidance, num_inference_steps=steps, output_type="pt", **call).images
        images.append(out.float().cpu())
    return torch.cat(images)


def score(classifier: ShapesClassifier, reference: Moments, images: torch.Tensor, seeds: Sequence[int]) -> dict:
    """`{"samples", "alignment", "frechet"}` of pictures (N, 3, 32, 32) in [0, 1] that `draw` made for `seeds`.

    Alignment is the share of pictures whose every attribute is as asked. The Frechet distance is between the features
    of the pictures and those of real scenes; its small-sample bias falls as 1 / N, so compare rows of one N.
    """
    parts = [
        measure(classifier, images[start : start + 500], seeds[start : start + 500])
        for start in range(0, len(images), 500)
    ]
    return {
        "samples": len(images),
        "alignment": torch.cat([part["alignment"] for part in parts]).double().mean().item(),
        "frechet": frechet_distance(Moments.of(torch.cat([part["features"] for part in parts])), reference),
    }


def save_reference(classifier: ShapesClassifier, folder: Path) -> Path:
    """Write the moments of real scenes that `load_judge` reads."""
    return Moments.of(real_features(classifier, REFERENCE_SCENES)).save(folder / REFERENCE)


def load_judge(assets: Path) -> tuple[ShapesClassifier, Moments]:
    """The classifier that ships in `assets`/shapes-classifier, and the moments of real scenes beside it.

    Raises:
        ValueError: they are not there; the message names the script that makes them.
    """
    folder = assets / "shapes-classifier"
    if not folder.is_dir():
        raise ValueError(f"{folder} is not there; scripts/train_shapes.py makes it")
    return ShapesClassifier.from_pretrained(folder).eval(), Moments.load(folder / REFERENCE)
