"""Tables of settings measured one by one from the same seeds, each through a resumable run."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tqdm import tqdm

from ..core.callback import Guide
from ..core.protocols import Pipeline
from ..networks.extractors import Extractor
from .identity import check_extractors, pipeline_weights
from .metrics.features import as_features
from .run import Measure, collect, extractor_measure, pipeline_draw
from .sources import Reference
from .store import CHUNK, ChunkStore
from .summary import check_arrays, estimates_row, summarise


if TYPE_CHECKING:
    from accelerate import PartialState


@dataclass(frozen=True)
class Subject:
    """What a pipeline draws for each seed, how its images are measured, and what they are compared with.

    Attributes:
        condition: the prompt or class id of a seed.
        measure: what is measured in the images of some seeds.
        reference: the other side of the distances, or None.
        settings: of all this, JSON-serialisable: what a result depends on.
        call: arguments that the pipeline's call always gets.
    """

    condition: Callable[[int], str | int]
    measure: Measure
    reference: Reference | None
    settings: Mapping
    call: Mapping = field(default_factory=dict)

    @classmethod
    def of(cls, asked: Sequence[str | int], extractor: Extractor, reference: Reference | None = None) -> "Subject":
        """Prompts or class ids, which the seeds take in rotation, measured by `extractor`."""

        def condition(seed: int) -> str | int:
            return asked[seed % len(asked)]

        settings = {"conditions": asked, "extractor": extractor.identity}
        return cls(condition, extractor_measure(extractor, condition), reference, settings)


def measure_setting(
    folder: Path,
    pipe: Pipeline,
    subject: Subject,
    seeds: Sequence[int],
    guidance: Sequence[Guide],
    call: Mapping,
    settings: Mapping,
    *,
    measures: Sequence[str] = ("frechet",),
    batch_size: int = 16,
    keep: int = 0,
    state: "PartialState | None" = None,
    chunk: int = CHUNK,
) -> tuple[ChunkStore, dict]:
    """Sample and measure one setting; what `folder` then holds, and its row: `nfe`, `samples`, every metric.

    Args:
        guidance: callbacks to attach, or none.
        call: arguments of the pipeline's call, in addition to those of `subject`.
        settings: what distinguishes this setting from others, JSON-serialisable; compared when a killed run resumes.
        measures: see `summarise`.
        batch_size, keep, state, chunk: see `collect`.

    Raises:
        ValueError: the reference is of another extractor; or, at the first images, before anything is stored, their
            features are not finite or cannot be compared with the reference, or `measures` ask for logits that there
            are not.
    """
    call = {**subject.call, **call}
    if subject.reference is not None:
        check_extractors(subject.settings.get("extractor"), subject.reference.extractor)
    draw = pipeline_draw(pipe, subject.condition, guidance, **call)

    def measure(images: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        arrays = subject.measure(images, seeds)
        dim = as_features(arrays["features"]).shape[1]
        if subject.reference is not None and dim != len(subject.reference.mean):
            raise ValueError(
                f"features of {dim} dimensions cannot be compared with a reference of {len(subject.reference.mean)}; "
                "it must be of the same extractor"
            )
        check_arrays(arrays, measures)
        return arrays

    facts = {**subject.settings, **settings, "call": call, "weights": pipeline_weights(pipe)}
    store = collect(folder, seeds, draw, measure, facts, batch_size, keep, state, chunk)
    row = {"nfe": float(store.array("nfe").mean()), "samples": store.samples}
    return store, row | estimates_row(summarise(store, subject.reference, measures))


@dataclass(frozen=True)
class Setting:
    """What one row of a study is sampled and measured with: a pipeline, callbacks, arguments of its call, a subject."""

    pipe: Pipeline
    guidance: Sequence[Guide]
    call: Mapping
    subject: Subject


def study(
    table: Sequence[Mapping],
    setting: Callable[[Mapping], Setting],
    folder: Path,
    seeds: Sequence[int],
    *,
    measures: Sequence[str] = ("frechet",),
    batch_size: int = 250,
    chunk: int | None = None,
) -> list[dict]:
    """Measure every row of `table` with the same seeds; each row with what was found. Shows progress and the rows.

    Each row has a run of its own in `folder`, named by its values, so a killed study resumes where it stopped, and a
    longer table measures only what is new.

    Args:
        table: rows with the values that tell them apart, JSON-serialisable: method, weight, steps, ...
        setting: of a row.
        batch_size: images at once.
        chunk: images in one file; None for as many as at once.
    """
    rows = []
    with tqdm(table, unit="row", desc=Path(folder).name) as progress:
        for given in progress:
            name = row_name(given)
            progress.set_postfix_str(name)
            one = setting(given)
            _, found = measure_setting(
                Path(folder) / name,
                one.pipe,
                one.subject,
                seeds,
                one.guidance,
                one.call,
                {"row": dict(given)},
                measures=measures,
                batch_size=batch_size,
                chunk=chunk or batch_size,
            )
            rows.append({**given, **found})
            values = ", ".join(f"{key} {value:.4g}" for key, value in found.items() if isinstance(value, float))
            progress.write(f"{name}: {values}")
    return rows


def row_name(row: Mapping) -> str:
    """A folder's name for the values of `row`: readable, and another one for any other values."""
    words = "-".join(f"{key}={value}" for key, value in row.items())
    digest = hashlib.sha256(json.dumps(dict(row), sort_keys=True).encode()).hexdigest()[:8]
    return "".join(c if c.isalnum() or c in ".=-+" else "_" for c in words)[:80] + "-" + digest
