"""Detect what a pipeline draws: each output carries scores and verdicts, computed on the device."""

import functools
from collections.abc import Callable
from typing import Any

import torch

from ..attachment.replacement import Replacement
from ..core.protocols import Pipeline
from .rigid import Detector
from .threshold import VERDICTS, Calibration


class Detection:
    """What a detector says about the images of one call, in their order.

    Attributes:
        scores: (B,) float32 on the encoder's device; lower means generated.
        codes: (B,) int64 on that device, positions in ("generated", "unsure", "real"); None without a calibration.
    """

    def __init__(self, scores: torch.Tensor, calibration: Calibration | None):
        self.scores = scores
        self.codes = None if calibration is None else calibration.codes(scores)

    @property
    def verdicts(self) -> list[str] | None:
        """ "generated", "unsure" or "real" for each image; waits for the device. None without a calibration."""
        return None if self.codes is None else [VERDICTS[code] for code in self.codes.tolist()]

    def __repr__(self) -> str:
        return f"Detection(scores={self.scores.tolist()}, verdicts={self.verdicts})"


def detect(pipe: Pipeline, detector: Detector) -> "Watch":
    """Score every image that `pipe` draws, until the `with` block ends or `detach()` is called.

    with detect(pipe, detector) as watch:
        output = pipe("a cat")
    output.detection.scores, output.detection.verdicts

    Images are scored as tensors in [0, 1], before they become arrays or PIL images, and stay on their device. It works
    together with `attach`, in either order.

    Args:
        pipe: a pipeline with an `image_processor`, or else with a `vae` that decodes to [-1, 1].
        detector: on the device of its encoder.

    Raises:
        ValueError: the pipeline makes no images.
        RuntimeError: a detector watches this pipeline already.
    """
    return Watch(pipe, detector)


class Watch:
    """A pipeline watched by a detector; made by `detect`.

    Attributes:
        detection: of the last call, for calls with `return_dict=False`; None if it made no images (latents).
    """

    def __init__(self, pipe: Pipeline, detector: Detector):
        if hasattr(type(pipe), "_watch"):
            raise RuntimeError(f"a detector watches this {type(pipe).__name__} already; leave that `with` block first")
        self.pipe, self.detector = pipe, detector
        self.detection: Detection | None = None
        self._found: list[torch.Tensor] = []
        if hasattr(pipe, "image_processor"):
            undo = Replacement(pipe.image_processor, "postprocess", self._postprocess).install().undo
        elif getattr(pipe, "vae", None) is not None:
            undo = Replacement(pipe.vae, "decode", self._decode).install().undo
        else:
            raise ValueError(f"{type(pipe).__name__} has no image_processor and no vae, so there are no images to see")
        # Python looks up __call__ in the class only, so this object gets a subclass of its own until `detach`.
        original = type(pipe)
        pipe.__class__ = type(
            original.__name__, (original,), {"__call__": _watched(original.__call__, self), "_watch": self}
        )
        self._undo: list[Callable[[], object]] = [undo, functools.partial(setattr, pipe, "__class__", original)]

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self.detach()

    def detach(self) -> None:
        """Restore the pipeline exactly. Detaching twice does nothing."""
        while self._undo:
            self._undo.pop()()

    def _call(self, original: Callable, args: tuple, kwargs: dict) -> Any:
        self.detection, self._found = None, []
        output = original(self.pipe, *args, **kwargs)
        if self._found:
            self.detection = Detection(torch.cat(self._found), self.detector.calibration)
        if not isinstance(output, tuple):
            output.detection = self.detection
        return output

    def _postprocess(
        self,
        original: Callable,
        image: torch.Tensor,
        output_type: str = "pil",
        do_denormalize: list[bool] | None = None,
        **kwargs: Any,
    ) -> Any:
        if output_type != "latent":
            self._see(original(image, output_type="pt", do_denormalize=do_denormalize))
        return original(image, output_type=output_type, do_denormalize=do_denormalize, **kwargs)

    def _decode(self, original: Callable, *args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        images = output[0] if isinstance(output, tuple) else output.sample
        self._see((images / 2 + 0.5).clamp(0, 1))
        return output

    def _see(self, images: torch.Tensor) -> None:
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"detectors see images (B, 3, H, W) or (B, 1, H, W), got {tuple(images.shape)}")
        images = images.detach().to(torch.float32)
        self._found.append(self.detector.score(images.expand(-1, 3, -1, -1)))


def _watched(original: Callable, watch: Watch) -> Callable:
    """`original`, a class's `__call__`, reporting to `watch`. It keeps the signature, which diffusers inspects."""

    @functools.wraps(original)
    def call(self: Pipeline, *args: Any, **kwargs: Any) -> Any:
        if self is not watch.pipe:  # a copy of the watched pipeline
            return original(self, *args, **kwargs)
        return watch._call(original, args, kwargs)

    return call
