"""Drawing for several people at once: one network, and a pipeline, callbacks and a trace for each request."""

import copy
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ..core.callback import Proceed
from ..core.needs import Upcoming
from ..core.step import Step
from ..evaluation.sampling import sample
from ..methods.classifier.decoding import images_of
from ..methods.trace import Trace
from .request import Request


if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

THREAD = "diffusion-guidance-play"  # name of each that draws


@dataclass(frozen=True)
class Preview:
    """The denoised estimate of column 0 or 1 after `done` of `total` evaluations; the image itself when `trace` is
    there, with what it cost."""

    column: int
    done: int
    total: int
    image: Image.Image
    trace: Trace | None = None
    evaluations: float = 0.0


def own_pipeline(shared: "DiffusionPipeline") -> "DiffusionPipeline":
    """A pipeline around the networks of `shared`, with scheduler and tokenizers of its own, for one thread."""
    own = copy.copy(shared)
    for name, part in shared.components.items():
        if name.startswith(("scheduler", "tokenizer")):
            setattr(own, name, copy.deepcopy(part))
    return own


def draw(shared: "DiffusionPipeline", request: Request) -> Iterator[Preview]:
    """Both images, one after the other, with a preview of each step. Closing the iterator ends the drawing.

    Raises:
        Exception: whatever the pipeline or a callback raises.
    """
    found: queue.Queue[Preview | BaseException | None] = queue.Queue()
    gone = threading.Event()

    def work() -> None:
        try:
            for column in range(len(request.guidance)):
                found.put(_draw_one(own_pipeline(shared), request, column, found.put, gone))
            found.put(None)
        except BaseException as error:  # handed to the thread that asked
            found.put(error)

    threading.Thread(target=work, name=THREAD, daemon=True).start()
    try:
        while (each := found.get()) is not None:
            if isinstance(each, BaseException):
                raise each
            yield each
    finally:
        gone.set()


def _draw_one(
    pipe: "DiffusionPipeline", request: Request, column: int, show: Callable[[Preview], object], gone: threading.Event
) -> Preview:
    trace = Trace(error=True)
    watch = _Watch(column, show, gone)
    guided = [*request.guidance[column], trace, watch]
    call: dict[str, Any] = {"output_type": "pil", **request.call()}
    output, evaluations = sample(pipe, [request.condition], [request.seed], guided, **call)
    return Preview(column, watch.done, watch.done, output.images[0], trace, evaluations)


class _Left(Exception):
    """Nobody waits for the image any more."""


class _Watch:
    """An observer, last in a list: shows the denoised estimate of each step, and changes nothing."""

    def __init__(self, column: int, show: Callable[[Preview], object], gone: threading.Event):
        self.column, self.show, self.gone, self.done = column, show, gone, 0

    def unconditional(self, upcoming: Upcoming) -> None:
        """It reads what there is; see `needs_unconditional`."""

    def __call__(self, step: Step, proceed: Proceed) -> torch.Tensor:
        prediction = proceed(step)
        if self.gone.is_set():
            raise _Left
        if not step.elsewhere:
            self.done = step.index + 1
            if (image := estimate_image(step, prediction)) is not None:
                self.show(Preview(self.column, self.done, step.total, image))
        return prediction


def estimate_image(step: Step, prediction: torch.Tensor) -> Image.Image | None:
    """The denoised estimate of the first sample as an image; None where the latents cannot be decoded as they are (they
    are packed, or a video's), or the scheduler is not understood."""
    try:
        with torch.no_grad():
            pixels = images_of(step, step.to_x0(prediction)[:1], None)[0]
    except (RuntimeError, ValueError, AttributeError):
        return None
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3):
        return None
    bytes_ = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().byte().permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(bytes_.squeeze(-1) if bytes_.shape[-1] == 1 else bytes_)
