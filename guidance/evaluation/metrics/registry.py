"""All metrics, one line each: what is computed from what, which direction is better, and how plots call it.

A new metric is a file with a function that returns one `Estimate` or a list of them, and a line here; reports, plots
and command lines then know it. Functions are named as `MODULE:FUNCTION` of this folder, so that a list of the metrics
costs no imports.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module


#: What a metric of a set may need, in the order of its arguments: `parts` are moments of disjoint parts of the samples.
NEEDS = ("parts", "features", "logits", "reference", "reference_features")


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: as on command lines and in stored arrays.
        source: `MODULE:FUNCTION`, the function that computes it.
        needs: its arguments: some of `NEEDS` for a metric of a set; for a score of each image `images` (B, 3, H, W) in
            [0, 1], or `features` and `texts`, both of them embeddings (B, D) in one space.
        fields: label of each value that it adds to a row, by the name of the value.
        lower_is_better: the direction of all its values.
    """

    name: str
    source: str
    needs: tuple[str, ...]
    fields: dict[str, str]
    lower_is_better: bool = False

    @property
    def function(self) -> Callable:
        module, name = self.source.split(":")
        return getattr(import_module(f".{module}", __package__), name)

    @property
    def per_image(self) -> bool:
        """Whether it scores single images while they are drawn; all others compare sets."""
        return not set(self.needs) <= set(NEEDS)


_ALL = (
    Metric("frechet", "frechet:frechet_estimate", ("parts", "reference"), {"frechet": "Frechet distance"}, True),
    Metric("kid", "kernels:kid_estimate", ("features", "reference_features"), {"kid": "KID"}, True),
    Metric("neighbours", "neighbours:neighbour_estimates", ("reference_features", "features"),
           {"precision": "precision", "recall": "recall", "density": "density", "coverage": "coverage"}),
    Metric("cmmd", "kernels:cmmd_estimate", ("features", "reference_features"), {"cmmd": "CMMD"}, True),
    Metric("inception_score", "scores:inception_score_estimate", ("logits",), {"inception_score": "Inception score"}),
    Metric("vendi", "vendi:vendi_estimate", ("features",), {"vendi": "Vendi score"}),
    Metric("saturation", "saturation:saturation", ("images",), {"saturation": "saturation"}),
    Metric("contrast", "saturation:contrast", ("images",), {"contrast": "contrast"}),
    Metric("clip_score", "scores:clip_score", ("features", "texts"), {"clip_score": "CLIP score"}),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}
#: Metrics of sets, which command lines offer.
MEASURES = tuple(metric.name for metric in _ALL if not metric.per_image)
#: Label of each value of a row, for axes and headings.
LABELS: dict[str, str] = {name: label for metric in _ALL for name, label in metric.fields.items()}
#: Values of which lower is better.
LOWER_IS_BETTER = frozenset(name for metric in _ALL if metric.lower_is_better for name in metric.fields)


def find_metrics(names: Sequence[str]) -> list[Metric]:
    """The metrics of sets of these names. Raises ValueError for another name."""
    if unknown := sorted(set(names) - set(MEASURES)):
        raise ValueError(f"unknown measure {', '.join(unknown)}; known are {', '.join(MEASURES)}")
    return [METRICS[name] for name in names]
