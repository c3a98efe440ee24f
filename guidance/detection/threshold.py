"""From scores of real images to a decision: a threshold with its interval, and a band of "unsure" around it."""

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from ..core.files import write_json
from ..core.json_files import read_json
from .cautions import READING, Check, ImageKinds, encoder_cautions


CONFIDENCE = 0.95
VERDICTS = ("generated", "unsure", "real")


@dataclass(frozen=True)
class Calibration:
    """The threshold below which a detector's scores mean "generated".

    Attributes:
        threshold: the quantile of the real scores at `false_positive_rate`; lower scores mean generated.
        interval: ends of its 95 % interval.
        unsure: (low, high): below it "generated", above it "real", within it (ends included) "unsure".
        false_positive_rate: the part of real images that may be called generated.
        samples: how many real images it was computed from.
        identity: of the detector; the threshold holds for no other.
        images: formats and sizes of the real images, where they were files.
        sanity: what the threshold says about images that were not generated; see `sanity_check`.

    Raises:
        ValueError: an end or the threshold is not finite, or the ends of a band are reversed.
    """

    threshold: float
    interval: tuple[float, float]
    unsure: tuple[float, float]
    false_positive_rate: float
    samples: int
    identity: dict
    images: ImageKinds | None = None
    sanity: tuple[Check, ...] = ()

    def __post_init__(self) -> None:
        for name, ends in (("interval", self.interval), ("unsure", self.unsure)):
            if not -math.inf < ends[0] <= ends[1] < math.inf:  # also NaN
                raise ValueError(f"the ends of {name} must be finite and in order, got {ends[0]} and {ends[1]}")
        if not math.isfinite(self.threshold):
            raise ValueError(f"the threshold must be finite, got {self.threshold}")

    def codes(self, scores: torch.Tensor) -> torch.Tensor:
        """(B,) int64 on the device of `scores` (B,): positions in `VERDICTS`. A score that is NaN is unsure."""
        low, high = self.unsure
        return 1 + (scores > high).to(torch.int64) - (scores < low).to(torch.int64)

    def verdicts(self, scores: torch.Tensor) -> list[str]:
        """ "real", "generated" or "unsure" for each of the scores (B,). Waits for the device."""
        return [VERDICTS[code] for code in self.codes(torch.as_tensor(scores)).tolist()]

    @property
    def cautions(self) -> list[str]:
        """Why verdicts may be wrong, a sentence each."""
        found = [caution for check in self.sanity for caution in check.cautions(self.false_positive_rate)]
        return encoder_cautions(self.identity) + found

    def save(self, path: str | os.PathLike) -> Path:
        """Write the calibration as JSON, atomically, with its cautions and our choices where the paper is silent."""
        return write_json(path, asdict(self) | {"cautions": self.cautions, "reading": READING})

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Calibration":
        """Read what `save` wrote. Raises ValueError if `path` is another file."""
        try:
            fields = read_json(path)
            ends = {name: (float(fields[name][0]), float(fields[name][1])) for name in ("interval", "unsure")}
            images, checks = fields.get("images"), fields.get("sanity", ())
            return cls(
                float(fields["threshold"]),
                **ends,
                false_positive_rate=float(fields["false_positive_rate"]),
                samples=int(fields["samples"]),
                identity=dict(fields["identity"]),
                images=images and ImageKinds(tuple(map(str, images["formats"])), _pair(images["pixels"])),
                sanity=tuple(Check(str(c["images"]), int(c["samples"]), int(c["generated"])) for c in checks),
            )
        except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
            raise ValueError(f"cannot read a calibration from {path}: {error!r}") from None


def _pair(values: Sequence) -> tuple[int, int]:
    return int(values[0]), int(values[1])


def needed_samples(false_positive_rate: float) -> int:
    """How many real images a threshold at that rate needs for its interval to have a lower end."""
    if not 0 < false_positive_rate <= 0.5:
        raise ValueError(f"a false-positive rate lies above 0 and is at most 0.5, got {false_positive_rate}")
    return math.ceil(math.log((1 - CONFIDENCE) / 2) / math.log1p(-false_positive_rate))


def calibrate(
    scores: Sequence[float] | torch.Tensor, false_positive_rate: float, identity: dict, unsure_rate: float | None = None
) -> Calibration:
    """The threshold that a share of `false_positive_rate` of the real images fall below.

    The ends of its interval are order statistics chosen by the binomial distribution, so it holds for scores of any
    distribution. The band of "unsure" is that interval: the verdict is "generated" only below its lower end, so with
    97.5 % confidence for at most `false_positive_rate` of the real images.

    Args:
        scores: (N,) of real images like the ones to be judged, from the detector of `identity`.
        false_positive_rate: in (0, 0.5].
        identity: see `Detector.identity`.
        unsure_rate: widens the band upwards until this share of the real images lies below its upper end.

    Raises:
        ValueError: too few scores (the message says how many are needed), a score that is not finite, a rate out of
            range, or an `unsure_rate` below `false_positive_rate`.
    """
    needed = needed_samples(false_positive_rate)
    values = np.sort(np.asarray(torch.as_tensor(scores).detach().cpu(), dtype=np.float64))
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("scores must be one finite number per image")
    count = len(values)
    if count < needed:
        raise ValueError(
            f"{count} real images are too few for a false-positive rate of {false_positive_rate:g}: it takes at "
            f"least {needed}; give more images, or ask for a higher rate"
        )
    below = stats.binom(count, false_positive_rate)
    tail = (1 - CONFIDENCE) / 2
    first = int(below.ppf(tail))  # the largest k with P(fewer than k scores below the quantile) <= tail
    last = min(int(below.ppf(1 - tail)), count - 1)  # P(at most that many below) >= 1 - tail
    low, high = float(values[max(first - 1, 0)]), float(values[last])
    threshold = float(np.quantile(values, false_positive_rate))
    upper = high
    if unsure_rate is not None:
        if not false_positive_rate <= unsure_rate < 1:
            raise ValueError(f"unsure_rate must be between the false-positive rate and 1, got {unsure_rate}")
        upper = max(high, float(np.quantile(values, unsure_rate)))
    return Calibration(threshold, (low, high), (low, upper), false_positive_rate, count, identity)
