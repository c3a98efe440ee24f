"""RIGID: detect generated images by how much noise moves their features. arXiv 2405.20112 (He, Chen and Ho, 2024).

It needs neither training nor generated images: a little noise hardly changes an encoder's features of a real image,
and changes those of a generated one more. A low similarity means generated.

The paper does not report where the noise is added, on which range of pixels, and which feature of the encoder is
compared. Our choice, which reports and calibrations hold as `cautions.READING`: the noise goes to the encoder's input,
after its resize, mean and standard deviation, and is not clipped; lambda is in units of those normalised values, so
0.05 is about 3 of 255 grey levels for ImageNet's; the feature is the pooled one that the encoder gives (of DINOv2 in
timm, the class token after the last norm).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from ..networks.encoders import Encoder
from .content_noise import content_noise, content_seeds
from .threshold import Calibration, calibrate


METHODS = ("rigid", "minder")
Features = Callable[[torch.Tensor], torch.Tensor]


def rigid_similarity(
    features: Features, images: torch.Tensor, delta: torch.Tensor, noise: float = 0.05
) -> torch.Tensor:
    """(B,) float32 in [-1, 1]: the cosine of f(x) and f(x + noise * delta), averaged over the draws of delta.

    Features of the clean images are computed once, and all in one batch.

    Args:
        features: f, from normalised images (N, C, H, W) to (N, D).
        images: x (B, C, H, W) as the encoder takes them, that is after its mean and standard deviation.
        delta: (B, draws, C, H, W) unit Gaussian noise.
        noise: lambda of the paper, in the normalised space; 0.05 there.

    Raises:
        ValueError: the shapes do not fit.
    """
    return _similarities(features, images, delta, noise, [])[0]


def minder_similarity(
    features: Features, images: torch.Tensor, delta: torch.Tensor, noise: float = 0.05, blur: float = 0.55
) -> torch.Tensor:
    """(B,) float32: the smaller one of `rigid_similarity` and the cosine of f(x) and f(blurred x).

    After MINDER (arXiv 2411.19117), with a plain Gaussian blur in place of its contrastive one.

    Args:
        blur: standard deviation of a Gaussian blur, in pixels of the encoder's input; our choice.
        features, images, delta, noise: see `rigid_similarity`.
    """
    noisy, blurred = _similarities(features, images, delta, noise, [gaussian_blur(images, blur)])
    return torch.minimum(noisy, blurred)


def gaussian_blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """`images` (B, C, H, W) blurred; the border is mirrored. The kernel reaches three sigma, one pixel at least."""
    from torchvision.transforms.functional import gaussian_blur as blur  # lazy: slow to import

    return blur(images, 2 * max(1, round(3 * sigma)) + 1, sigma)


def _similarities(
    features: Features, images: torch.Tensor, delta: torch.Tensor, noise: float, others: list[torch.Tensor]
) -> list[torch.Tensor]:
    """One (B,) for the noise, and one for each of `others`, images of the shape of `images`."""
    if delta.ndim != 5 or delta[:, 0].shape != images.shape:
        raise ValueError(f"expected noise (B, draws, C, H, W) for {tuple(images.shape)}, got {tuple(delta.shape)}")
    noisy = (
        torch.addcmul(images[:, None], delta, delta.new_tensor(noise)) if noise else images[:, None].expand_as(delta)
    )
    found = features(torch.cat([images, noisy.flatten(0, 1), *others])).float()
    clean, noisy, *rest = found.split([len(images), delta.shape[0] * delta.shape[1], *map(len, others)])
    noisy = functional.cosine_similarity(clean[:, None], noisy.unflatten(0, delta.shape[:2]), dim=2).mean(1)
    return [noisy, *(functional.cosine_similarity(clean, other, dim=1) for other in rest)]


@dataclass(frozen=True)
class Detector:
    """Scores images by `rigid_similarity`, and gives verdicts once it is calibrated.

    An image's noise comes from its own pixels, so its score is the same alone, in any batch, and in any order, except
    for rounding: kernels sum in an order that can depend on the batch's size.

    Args:
        encoder: see `load_encoder`; the paper's is DINOv2 ViT-L/14.
        noise: lambda, in the encoder's normalised space.
        draws: of the noise, averaged.
        method: "rigid", or "minder": the smaller one of the noise's and a blur's similarity.
        calibration: from images scored by a detector of the same identity.
        batch: images in the encoder at once, noisy ones included; bounds the memory.

    Raises:
        ValueError: an unknown method, noise or draws out of range, or a calibration of another detector.
    """

    encoder: Encoder
    noise: float = 0.05
    draws: int = 1
    method: str = "rigid"
    calibration: Calibration | None = None
    batch: int = 64

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if not self.noise > 0 or self.draws < 1:
            raise ValueError(f"noise must be above 0 and draws at least 1, got {self.noise} and {self.draws}")
        if self.calibration is not None and self.calibration.identity != self.identity:
            known = self.calibration.identity
            other = sorted(name for name in {*known, *self.identity} if known.get(name) != self.identity.get(name))
            raise ValueError(
                f"the calibration is of a detector with another {', '.join(other)}; calibrate this one on real images"
            )

    @classmethod
    def published(cls, encoder: Encoder) -> "Detector":
        """The paper's settings: lambda 0.05, one draw."""
        return cls(encoder, noise=0.05, draws=1, method="rigid")

    @property
    def identity(self) -> dict:
        """All that a score depends on, JSON-serialisable; waits for the device the first time."""
        return {**self.encoder.identity, "noise": self.noise, "draws": self.draws, "method": self.method}

    @torch.no_grad()
    def score(self, images: torch.Tensor) -> torch.Tensor:
        """(B,) float32 on the encoder's device; lower means generated.

        Args:
            images: (B, 3, H, W) in [0, 1], of any size.

        Raises:
            ValueError: images of another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise ValueError(f"expected images (B, 3, H, W) in [0, 1], got {tuple(images.shape)} {images.dtype}")
        device = self.encoder.device
        parts = images.split(self._parts)
        return torch.cat([self._score(*self.prepare(part.to(device, torch.float32))) for part in parts])

    def prepare(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The first half of `score`: the encoder's input (B, 3, size, size) and the seeds (B,) of the noise.

        It runs where the images are, so that images of several sizes, prepared one by one, make one batch.
        """
        return self.encoder.transform(images), content_seeds(images)

    @torch.no_grad()
    def score_prepared(self, inputs: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        """The second half of `score`, of what `prepare` gave: (B,) float32 on the encoder's device."""
        device = self.encoder.device
        parts = zip(inputs.split(self._parts), seeds.split(self._parts), strict=True)
        return torch.cat([self._score(part.to(device), numbers.to(device)) for part, numbers in parts])

    def verdict(self, scores: torch.Tensor) -> list[str]:
        """ "real", "generated" or "unsure" for each score. Raises ValueError if the detector is not calibrated."""
        if self.calibration is None:
            raise ValueError("this detector has no threshold yet: calibrate it on real images first")
        return self.calibration.verdicts(scores)

    def with_calibration(self, calibration: Calibration) -> "Detector":
        """This detector with `calibration`. Raises ValueError if that is of a detector with another identity."""
        return replace(self, calibration=calibration)

    def calibrated(
        self, real_images: Iterable[torch.Tensor], false_positive_rate: float, unsure_rate: float | None = None
    ) -> "Detector":
        """This detector, calibrated on batches of real images (B, 3, H, W) in [0, 1]; see `calibrate`."""
        scores = torch.cat([self.score(images).cpu() for images in real_images])
        return self.with_calibration(calibrate(scores, false_positive_rate, self.identity, unsure_rate))

    @property
    def _parts(self) -> int:
        """Images to score at once."""
        return max(1, self.batch // (1 + self.draws + (self.method == "minder")))

    def _score(self, inputs: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        delta = content_noise(seeds, (self.draws, *inputs.shape[1:]))
        similarity = rigid_similarity if self.method == "rigid" else minder_similarity
        return similarity(self.encoder.features, inputs, delta, self.noise)
