"""How well scores separate real from generated images, also after both are re-encoded or changed in the same way."""

import io
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from scipy import stats
from torch.nn import functional

from ..evaluation.metrics.estimate import LEVEL, Estimate
from .content_noise import content_noise, content_seeds
from .rigid import gaussian_blur


Corruption = Callable[[torch.Tensor], torch.Tensor]


def auroc(real: np.ndarray, fake: np.ndarray) -> float:
    """AUROC: the probability that a real image scores above a generated one, ties count half; scores (N,) and (M,)."""
    ranks = stats.rankdata(np.concatenate([real, fake]))
    return float((ranks[: len(real)].sum() - len(real) * (len(real) + 1) / 2) / (len(real) * len(fake)))


def average_precision(real: np.ndarray, fake: np.ndarray) -> float:
    """Precision averaged over the recall of real images, the positive class; equal scores are one threshold."""
    true, false, counts = _cumulative(real, fake)
    return float((counts * true / (true + false)).sum() / len(real))


def fpr_at_tpr(real: np.ndarray, fake: np.ndarray, tpr: float = 0.95) -> float:
    """The part of generated images that pass as real at the highest threshold that passes `tpr` of the real ones."""
    true, false, _ = _cumulative(real, fake)
    return float(false[np.searchsorted(true, tpr * len(real) * (1 - 1e-12))] / len(fake))


METRICS = {"auroc": auroc, "average_precision": average_precision, "fpr95": fpr_at_tpr}


def detection_figures(real: torch.Tensor, fake: torch.Tensor, draws: int = 1000, seed: int = 0) -> list[Estimate]:
    """AUROC, average precision and FPR at 95 % TPR, real images the positive class, with bootstrap intervals.

    Each side is resampled by itself (percentile bootstrap, 95 %).

    Args:
        real, fake: scores (N,) and (M,), high for real.

    Raises:
        ValueError: a side is empty, or a score is not finite.
    """
    sides = [np.asarray(torch.as_tensor(side).detach().cpu(), dtype=np.float64) for side in (real, fake)]
    if any(side.ndim != 1 or len(side) == 0 or not np.isfinite(side).all() for side in sides):
        raise ValueError("scores must be one finite number per image, and at least one per side")
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        again = [side[rng.integers(len(side), size=len(side))] for side in sides]
        drawn.append([metric(*again) for metric in METRICS.values()])
    ends = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return [
        Estimate(name, metric(*sides), (float(low), float(high)), sum(map(len, sides)))
        for (name, metric), low, high in zip(METRICS.items(), *ends, strict=True)
    ]


def encoded(images: torch.Tensor, kind: str, **options: int) -> torch.Tensor:
    """`images` (B, 3, H, W) in [0, 1] written and read back by Pillow, as 8 bits; `kind` is PNG, JPEG or WEBP."""
    from PIL import Image

    result = []
    for pixels in (images * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy():
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, **options)
        result.append(torch.from_numpy(np.array(Image.open(file).convert("RGB"))))
    return torch.stack(result).permute(0, 3, 1, 2).float().div(255).to(images.device)


def _resized(images: torch.Tensor, factor: float) -> torch.Tensor:
    """Resized by `factor` and back to the old size, bicubic."""
    size = images.shape[-2:]
    small = [max(1, round(side * factor)) for side in size]
    for to in (small, size):
        images = functional.interpolate(images, to, mode="bicubic", antialias=True).clamp(0, 1)
    return images


def _cropped(images: torch.Tensor, part: float) -> torch.Tensor:
    """The middle, `part` of each side."""
    high, wide = (max(1, round(side * part)) for side in images.shape[-2:])
    top, left = (images.shape[-2] - high) // 2, (images.shape[-1] - wide) // 2
    return images[..., top : top + high, left : left + wide]


def _noisy(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Independent noise for each image, different from the detector's."""
    return (images + sigma * content_noise(content_seeds(images) ^ 1, images.shape[1:])).clamp(0, 1)


#: name -> (kind, strength, function); the first changes nothing. Sigma is in pixels for blur, in [0, 1] for noise.
CORRUPTIONS: Mapping[str, tuple[str, float, Corruption]] = {
    "none": ("none", 0.0, lambda images: images),
    **{f"jpeg {q}": ("jpeg", q, partial(encoded, kind="JPEG", quality=q)) for q in (95, 75, 50)},
    **{f"webp {q}": ("webp", q, partial(encoded, kind="WEBP", quality=q)) for q in (90, 60)},
    **{f"resize {f}": ("resize", f, partial(_resized, factor=f)) for f in (0.75, 0.5)},
    **{f"crop {p}": ("crop", p, partial(_cropped, part=p)) for p in (0.875, 0.75)},
    **{f"blur {s}": ("blur", s, partial(gaussian_blur, sigma=s)) for s in (0.5, 1.0)},
    **{f"noise {s}": ("noise", s, partial(_noisy, sigma=s)) for s in (0.01, 0.03)},
}

#: What images commonly go through before they are seen: the rows of `detect measure`.
RECODINGS: Mapping[str, tuple[str, float, Corruption]] = {
    "none": CORRUPTIONS["none"],
    "jpeg 90": ("jpeg", 90, partial(encoded, kind="JPEG", quality=90)),
    **{name: CORRUPTIONS[name] for name in ("jpeg 75", "jpeg 50", "resize 0.5")},
}
_KNOWN = {**CORRUPTIONS, **RECODINGS}


def corrupt(images: torch.Tensor, name: str) -> torch.Tensor:
    """`images` (B, 3, H, W) in [0, 1] after one of `CORRUPTIONS` or `RECODINGS`, then as a PNG file would hold them.

    Both sides of a comparison go through the same, so neither file format nor bit depth distinguishes them.

    Raises:
        ValueError: an unknown corruption.
    """
    if name not in _KNOWN:
        raise ValueError(f"unknown corruption {name!r}; known are {', '.join(_KNOWN)}")
    return (_KNOWN[name][2](images) * 255).round().clamp(0, 255) / 255


def _cumulative(real: np.ndarray, fake: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """At each threshold, from the highest score down: real and fake images that pass, and the new real ones."""
    thresholds = np.unique(np.concatenate([real, fake]))[::-1]
    true = len(real) - np.searchsorted(np.sort(real), thresholds, side="left")
    false = len(fake) - np.searchsorted(np.sort(fake), thresholds, side="left")
    return true, false, np.diff(true, prepend=0)
