"""What `diffusion-guidance evaluate` does: one run, a sweep of runs, or two sets of images compared."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.callback import Callback
from ..core.configuration import to_config
from ..evaluation.columns import setting_columns
from ..evaluation.identity import check_extractors
from ..evaluation.metrics.frechet import merged
from ..evaluation.publish import publish_curves
from ..evaluation.references import load_side
from ..evaluation.run import describe_seeds
from ..evaluation.sources import stored_extractor
from ..evaluation.store import ChunkStore
from ..evaluation.study import Subject, measure_setting, row_name
from ..evaluation.summary import estimates_row, summarise
from .check_call import check_call
from .failures import blaming
from .guidance import OWN, parse_method
from .measuring import SHEET, Compared, Measuring
from .options import Call, Model


if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@dataclass(frozen=True)
class Setting:
    """One method of a sweep at one weight.

    Attributes:
        text, short: as it was given, with `{weight}`, and with the weight in its place.
        weight: None for a method whose text has no weight.
    """

    text: str
    short: str
    guidance: list[Callback]
    weight: float | None

    @property
    def own_weight(self) -> float | None:
        """The weight of the pipeline itself, where it is the method."""
        return self.weight if self.short == OWN else None

    @property
    def line(self) -> str:
        """How curves call it."""
        return "cfg" if self.text == OWN else self.text


def plan(methods: Sequence[str], weights: Sequence[float]) -> list[Setting]:
    """Every setting of a sweep; exactly the weight that is given is used."""
    settings = []
    for text in dict.fromkeys(methods):
        for weight in dict.fromkeys(weights) if "{weight}" in text or text == OWN else [None]:
            short = text if weight is None else text.replace("{weight}", exact(weight))
            settings.append(Setting(text, short, parse_method(short), weight))
    return settings


def run(
    measuring: Measuring, compared: Compared, model: Model, seeds: Sequence[int], guidance: list[Callback], call: Call
) -> None:
    """Sample and measure one setting, and publish its report."""
    (row,) = given = described([guidance], [call.weight])
    subject, pipe = prepare(measuring, compared, model, call.more, given)
    with blaming(call.more):
        store, found = measured(measuring, measuring.out, pipe, subject, seeds, guidance, call.steps, call.weight)
    facts = {"seeds": describe_seeds(seeds), **subject.settings}
    measuring.publish([row | {"steps": call.steps} | found], facts, subject.reference, store)


def sweep(
    measuring: Measuring,
    compared: Compared,
    model: Model,
    seeds: Sequence[int],
    settings: Sequence[Setting],
    steps: Sequence[int],
    call: Mapping[str, object],
) -> None:
    """Sample and measure every setting at every number of steps, and publish one report with curves."""
    given = described([one.guidance for one in settings], [one.weight for one in settings])
    subject, pipe = prepare(measuring, compared, model, call, given)
    rows, lines = [], []
    for count in steps:
        for one, row in zip(settings, given, strict=True):
            name = row_name({"method": one.short, "weight": one.weight, "steps": count})
            folder = measuring.out / "runs" / name
            with blaming(call):
                _, found = measured(measuring, folder, pipe, subject, seeds, one.guidance, count, one.own_weight)
            rows.append(row | {"steps": count} | found)
            lines.append(f"{one.line}, {count} steps")
    measuring.publish(rows, {"seeds": describe_seeds(seeds), **subject.settings}, subject.reference)
    if measuring.state.is_main_process:
        publish_curves(measuring.out, rows, lines)


def score(measuring: Measuring, images: Path, path: Path, save_statistics: Path | None) -> None:
    """Compare the `images` with those at `path`."""
    extractor = measuring.load_extractor()
    reference = measuring.reference(path, extractor)
    measures = measuring.wanted(reference)
    store = load_side(images, extractor, measuring.out, measuring.batch_size, measuring.state)
    identity = stored_extractor(store)
    check_extractors(identity, reference.extractor)
    row = {"samples": store.samples} | estimates_row(summarise(store, reference, measures))
    if save_statistics and measuring.state.is_main_process:
        facts = {} if identity is None else {"extractor": json.dumps(identity)}
        merged(store.moments(1)).save(save_statistics, facts)
    measuring.publish([row], {"pictures": str(images), "extractor": identity}, reference)


def prepare(
    measuring: Measuring, compared: Compared, model: Model, call: Mapping[str, object], rows: Sequence[Mapping]
) -> "tuple[Subject, DiffusionPipeline]":
    """What is measured, and the pipeline; refuses measures that cannot be had before anything is drawn.

    Args:
        rows: what the report already says of each setting.
    """
    subject = measuring.scored(compared.subject(measuring, model, call), {name for row in rows for name in row})
    measuring.wanted(subject.reference)
    pipe = model.load(measuring.device)
    check_call(pipe, compared.asked.conditions or [*map(subject.condition, range(10))], subject.call)
    return subject, pipe


def measured(
    measuring: Measuring,
    out: Path,
    pipe: "DiffusionPipeline",
    subject: Subject,
    seeds: Sequence[int],
    guidance: list[Callback],
    steps: int,
    weight: float | None,
) -> tuple[ChunkStore, dict]:
    """One setting: sample, measure, and what was found for the row of the report."""
    call = {"num_inference_steps": steps} | ({} if weight is None else {"guidance_scale": weight})
    return measure_setting(
        out,
        pipe,
        subject,
        seeds,
        guidance,
        call,
        {"guidance": to_config(guidance)},
        measures=measuring.wanted(subject.reference),
        batch_size=measuring.batch_size,
        keep=SHEET,
        state=measuring.state,
    )


def described(chains: Sequence[list[Callback]], weights: Sequence[float | None]) -> list[dict]:
    """The columns of each row that tell its setting: the method, its weight, and all that is not at its default."""
    rows = []
    for chain, weight in zip(chains, weights, strict=True):
        method = "+".join(type(callback).__name__.lower() for callback in chain) or "cfg"
        rows.append({"method": method} | ({} if weight is None else {"weight": weight}))
    return [row | more for row, more in zip(rows, setting_columns(chains, rows), strict=True)]


def exact(number: float) -> str:
    """The shortest text that means just this number."""
    short = f"{number:g}"
    return short if float(short) == number else repr(number)
