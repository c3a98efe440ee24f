"""Options of `diffusion-guidance evaluate`: what images are measured by, and what they are compared with."""

from argparse import ArgumentParser, Namespace
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..evaluation.metrics.registry import MEASURES
from ..worlds.shipped import WORLDS, assets_folder
from .arguments import at_least
from .options import Asked, Model, add_batch_size, find_device
from .parser import kind, path


if TYPE_CHECKING:
    from accelerate import PartialState

    from ..evaluation.sources import Reference
    from ..evaluation.store import ChunkStore
    from ..evaluation.study import Subject
    from ..networks.extractors import Extractor

SHEET = 64  # images on the contact sheet
SCENES = 10_000  # of the shapes world, drawn where a measure needs their features


@dataclass(frozen=True)
class Measuring:
    """By what images are measured, in batches of what size, and where everything goes.

    Attributes:
        state: accelerate's PartialState: this process among those of `accelerate launch`.
        scores: of single images, as `load_scorer` takes them.
    """

    extractor: str | None
    measures: Sequence[str]
    batch_size: int
    out: Path
    device: str
    state: "PartialState"
    scores: Sequence[str] = ()

    @staticmethod
    def add(parser: ArgumentParser) -> None:
        text = "inception, dinov2, clip, lite0, shapes, digits or emoji"
        parser.add_argument("--extractor", metavar="NAME[:WEIGHTS]", help=text)
        text = "may be repeated (default: frechet)"
        parser.add_argument("--measure", action="append", default=[], choices=MEASURES, help=text)
        add_batch_size(parser, 16)
        text = "folder for what is measured and for the report"
        parser.add_argument("--out", type=path, required=True, help=text)

    @classmethod
    def of(cls, args: Namespace) -> "Measuring":
        from ..evaluation.run import process_state

        if args.device is not None:
            find_device(args.device)
        state = process_state()
        device = args.device or str(state.device)
        scores = getattr(args, "score", ())
        return cls(args.extractor, args.measure, args.batch_size, args.out, device, state, scores)

    @staticmethod
    def add_scores(parser: ArgumentParser) -> None:
        """Of single images for what was asked, which is known where they are drawn."""
        text = "package.module:function of (images, prompts); clip-score[:EXTRACTOR], pickscore[:FOLDER], hps:FILE or "
        text += "pyiqa:METRIC; may be repeated"
        parser.add_argument("--score", action="append", default=[], metavar="SCORE", help=text)

    def scored(self, subject: "Subject", columns: Collection[str] = ()) -> "Subject":
        """`subject`, measured by the scores too; none of them may have the name of one of the `columns` in use.

        Its settings say that there are none, too: a run with scores does not go on without them.
        """
        from ..evaluation.scorers import load_scorer, scored

        scorers = [load_scorer(text, self.device) for text in self.scores]
        if taken := sorted({scorer.name for scorer in scorers} & {*columns}):
            raise ValueError(f"this report has a column {taken[0]} already; give the score another name")
        settings = {**subject.settings, "scores": [dict(scorer.identity) for scorer in scorers]}
        return replace(subject, measure=scored(subject.measure, scorers, subject.condition), settings=settings)

    def load_extractor(self) -> "Extractor | None":
        if self.extractor is None:
            return None
        if self.extractor in WORLDS:
            from ..evaluation.subjects import load_world_extractor

            return load_world_extractor(self.extractor, assets_folder(), self.device)
        from ..networks.extractors import load_extractor

        return load_extractor(self.extractor, self.device)

    @property
    def needs_features(self) -> bool:
        from ..evaluation.summary import needs_features

        return needs_features(self.measures)

    def reference(self, path: Path, extractor: "Extractor | None") -> "Reference":
        from ..evaluation.references import load_reference

        folder = self.out / "reference"
        return load_reference(path, extractor, folder, self.needs_features, self.batch_size, self.state)

    def wanted(self, reference: "Reference | None") -> list[str]:
        """The measures that were asked for, or the default; refuses those that `reference` does not serve."""
        from ..evaluation.summary import check_reference

        measures = list(self.measures) or (["frechet"] if reference is not None else [])
        check_reference(reference, measures)
        return measures

    def publish(
        self, rows: Sequence[Mapping], facts: Mapping, reference: "Reference | None", store: "ChunkStore | None" = None
    ) -> None:
        """Write what was found, once."""
        from ..evaluation.publish import publish

        if self.state.is_main_process:
            images = next(store.rows("images"))[:SHEET] / 255 if store is not None else None
            print(publish(self.out, rows, facts, reference, images))


@dataclass(frozen=True)
class Compared:
    """What is drawn, and with what it is compared."""

    world: str | None
    asked: Asked
    reference: Path | None
    scenes: int | None

    @staticmethod
    def add(parser: ArgumentParser) -> None:
        what = Asked.add(parser, one=False)
        what.add_argument("--world", choices=WORLDS, help="prompts, measures and reference of this world")
        text = "what the images are compared with"
        parser.add_argument("--reference", type=path, metavar="PATH", help=text)
        text = "draw N scenes of the shapes world as its reference (default: stored moments of 20,000)"
        parser.add_argument("--world-samples", type=kind(at_least(2)), metavar="N", help=text)

    @classmethod
    def of(cls, args: Namespace) -> "Compared":
        return cls(args.world, Asked.of(args), args.reference, args.world_samples)

    def subject(self, measuring: Measuring, model: Model, call: Mapping[str, object]) -> "Subject":
        """The subject of the run; `call` are more arguments of the pipeline's call."""
        subject = self._world(measuring) if self.world else self._asked(measuring)
        settings = {"pipeline": model.name, "dtype": model.dtype, **subject.settings}
        return replace(subject, settings=settings, call={**subject.call, **call})

    def _world(self, measuring: Measuring) -> "Subject":
        from ..evaluation.subjects import load_subject, load_world_extractor

        if measuring.extractor:
            raise ValueError("--world brings its own extractor; leave --extractor out")
        world, device = str(self.world), measuring.device
        judge = load_world_extractor(world, assets_folder(), device)
        reference = measuring.reference(self.reference, judge) if self.reference else None
        scenes = self.scenes or (SCENES if measuring.needs_features else None)
        return load_subject(world, assets_folder(), device, reference, scenes)

    def _asked(self, measuring: Measuring) -> "Subject":
        from ..evaluation.study import Subject

        extractor = measuring.load_extractor()
        if extractor is None or not self.asked.conditions:
            raise ValueError(
                "--extractor is needed to measure images: inception, dinov2, clip, lite0, shapes, digits or emoji"
            )
        reference = measuring.reference(self.reference, extractor) if self.reference else None
        return Subject.of(self.asked.conditions, extractor, reference)
