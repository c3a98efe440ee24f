"""What one press of Draw does: from the values of the page to images, curves and code, or to one sentence."""

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.configuration import to_config
from ..evaluation.identity import pipeline_weights
from ..evaluation.record import Record
from .curves import curves
from .drawing import Preview, draw
from .fields import Field, build
from .request import Checkpoint, Request


if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from matplotlib.figure import Figure

#: The sentence for an error that is about what was given; None for a fault of the program.
Explain = Callable[[BaseException], str | None]


@dataclass(frozen=True)
class Column:
    """What the page says of one image: a method, a value for each of its fields, and further callbacks as text."""

    method: str
    values: Sequence[Any]
    then: str = ""


@dataclass(frozen=True)
class Shown:
    """What the page shows at a moment; images are Pillow's while drawing, files of PNG when they are whole."""

    status: str = ""
    failed: bool = False
    images: tuple[Any, Any] = (None, None)
    captions: tuple[str, str] = ("", "")
    plot: "Figure | None" = None
    python: str = ""
    command: str = ""


@dataclass
class Studio:
    """The shared network, the methods on offer, and a folder for whole images, which goes with the process."""

    pipe: "DiffusionPipeline"
    checkpoint: Checkpoint
    methods: dict[str, list[Field]]
    explain: Explain
    weight: float | None = None  # of the pipeline's own guidance, to begin with; None where its call takes none
    classes: bool = False  # the pipeline takes class ids, not prompts
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="diffusion-guidance-play-")))

    def __post_init__(self) -> None:
        self._weights = pipeline_weights(self.pipe)
        for part in self.pipe.components.values():  # nothing is trained here, and threads share the networks
            if hasattr(part, "requires_grad_"):
                part.requires_grad_(False)

    def request(
        self, prompt: str, seed: float, steps: float, weight: float | None, columns: Sequence[Column]
    ) -> Request:
        """What to draw. Raises ValueError with a sentence that names what cannot be used."""
        guidance = []
        for number, column in enumerate(columns):
            try:
                guidance.append(build(self.methods[column.method], column.method, column.values, column.then))
            except ValueError as error:
                raise ValueError(f"{'left' if number == 0 else 'right'}: {error}") from None
        own = None if self.weight is None or weight is None else float(weight)
        condition = _class_id(prompt) if self.classes else str(prompt or "").strip()
        return Request(self.checkpoint, condition, _whole(seed), _whole(steps), own, guidance)

    def draw(self, *given: Any) -> Iterator[Shown]:
        """Everything that the page shows while `request(*given)` is drawn; the last is whole, or a sentence."""
        shown = Shown()
        try:
            request = self.request(*given)
            shown = replace(shown, python=request.python(), command=request.command())
            yield (shown := replace(shown, status="waiting for the first step"))
            traces = []
            for preview in draw(self.pipe, request):
                shown = self._with(shown, preview, request)
                if preview.trace is not None:
                    traces.append(preview.trace)
                yield shown
            yield replace(shown, status="done", plot=curves(traces, request.titles()))
        except Exception as error:
            if (sentence := self.explain(error)) is None:
                logging.getLogger(__name__).exception("drawing failed")
                sentence = f"this is a fault of the program, please report it: {type(error).__name__}: {error}"
            yield replace(shown, status=sentence, failed=True)

    def _with(self, shown: Shown, preview: Preview, request: Request) -> Shown:
        images, captions = list(shown.images), list(shown.captions)
        whole = preview.trace is not None
        images[preview.column] = str(self._keep(preview, request)) if whole else preview.image
        captions[preview.column] = (
            f"{preview.evaluations:g} evaluations" if whole else f"step {preview.done} of {preview.total}"
        )
        side = "left" if preview.column == 0 else "right"
        status = f"drawing the {side} image: step {preview.done} of {preview.total}"
        return replace(shown, status=status, images=(images[0], images[1]), captions=(captions[0], captions[1]))

    def _keep(self, preview: Preview, request: Request) -> Path:
        """A file of the image, at its own size, that says how it was drawn."""
        guidance = to_config(request.guidance[preview.column])
        settings = {"guidance": guidance, "call": request.call(), "dtype": self.checkpoint.dtype}
        record = replace(
            Record.of(settings | {"weights": self._weights}), condition=request.condition, seed=request.seed
        )
        path = Path(tempfile.mkdtemp(dir=self.folder)) / f"{request.seed:06d}.png"
        preview.image.save(path, pnginfo=record.info())
        return path


def _whole(given: Any) -> Any:
    return int(given) if isinstance(given, float) and given.is_integer() else given


def _class_id(text: str) -> int:
    if not (text := str(text or "").strip()).isdecimal() or not text.isascii() or len(text) > 9:
        raise ValueError(f"write the number of a class, got {text[:50]!r}")
    return int(text)
