"""Why a detector's verdicts may be wrong: one sentence per reason, and our choices where the paper is silent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scipy import stats


#: The paper reports none of these. Reports and calibrations hold them.
READING = {
    "source": "our reading of arXiv 2405.20112, which reports none of the three",
    "noise": "added to the encoder's input, after the resize and after its mean and standard deviation; not clipped",
    "range": "lambda is in units of those normalised values: 0.05 is about 3 of 255 grey levels for ImageNet's",
    "feature": "the pooled one that the encoder gives (of DINOv2 in timm, the class token after the last norm)",
}
PAPER = "timm/vit_large_patch14_dinov2"  # how the name of the paper's encoder begins
TOLERANCE = 1.5  # how many times more or fewer pixels still count as the same size
NOISE, BLUR, BICUBIC = "uniform noise", "blurred by 1 pixel", "bicubic, half the size and back"
LEVEL = 0.01  # of the test of a check


@dataclass(frozen=True)
class Check:
    """How many images of one kind that were not generated a threshold calls generated.

    Attributes:
        images: the kind; `NOISE`, or what was done to real images.
        samples: how many were scored.
        generated: how many of them scored below the threshold.

    Raises:
        ValueError: there are no samples, or fewer than those called generated.
    """

    images: str
    samples: int
    generated: int

    def __post_init__(self) -> None:
        if not 0 <= self.generated <= self.samples or not self.samples:
            raise ValueError(f"{self.generated} of {self.samples} images cannot be")

    def above(self, rate: float) -> bool:
        """Whether that many are unlikely at this rate (exact binomial test)."""
        return bool(stats.binomtest(self.generated, self.samples, rate, alternative="greater").pvalue < LEVEL)

    def cautions(self, rate: float) -> list[str]:
        """A sentence if this is evidence against the detector."""
        share = f"{self.generated} of {self.samples} called generated"
        if self.images == NOISE:
            wrong = 2 * self.generated < self.samples
            return [f"uniform noise counts as real for this encoder ({share})"] if wrong else []
        wrong = self.above(rate)
        because = "the score depends on sharpness, not on generation alone"
        return [f"real images {self.images} are found too ({share}, {rate:.3g} expected): {because}"] if wrong else []


@dataclass(frozen=True)
class ImageKinds:
    """Formats and sizes of a set of images.

    Attributes:
        formats: of the contents, sorted.
        pixels: of the smallest and the largest image.
    """

    formats: tuple[str, ...]
    pixels: tuple[int, int]

    @classmethod
    def of(cls, kinds: Iterable[tuple[str, int]]) -> "ImageKinds":
        """From format and pixels of each image, of which there is at least one."""
        formats, pixels = zip(*kinds, strict=True)
        return cls(tuple(sorted({*formats})), (min(pixels), max(pixels)))

    def holds(self, kind: tuple[str, int]) -> bool:
        """Whether an image of this format and size is like the images of the set."""
        low, high = self.pixels
        return kind[0] in self.formats and low / TOLERANCE <= kind[1] <= high * TOLERANCE

    def __str__(self) -> str:
        return f"{', '.join(self.formats)}, {' to '.join(map(str, dict.fromkeys(self.pixels)))} pixels"


def encoder_cautions(identity: Mapping) -> list[str]:
    """The caution for an encoder other than the paper's."""
    name = str(identity.get("encoder"))
    if name == PAPER or name.startswith(f"{PAPER}."):
        return []
    return [f"the encoder {name} is not the paper's (DINOv2 ViT-L/14), so the paper's accuracy does not hold for it"]


def difference_cautions(
    kinds: Mapping[tuple[str, int], int], known: ImageKinds, whose: str, what: str = "images"
) -> list[str]:
    """The caution for images unlike the `known` ones; `kinds` counts images by format and pixels."""
    other = sum(count for kind, count in kinds.items() if not known.holds(kind))
    said = f"{other} of {sum(kinds.values())} {what} differ in format or size from {whose} ({known})"
    return [f"{said}, and scores depend on both"] if other else []


def sanity_table(checks: Sequence[Check], rate: float) -> str:
    """Lines to print; `rate` is the part of unchanged real images that the threshold calls generated."""
    lines = [f"called generated, where {rate:.3g} of real images are:"]
    return "\n".join(lines + [f"  {check.images:<32} {check.generated / check.samples:.3g}" for check in checks])
