"""An observer that runs a classifier on the denoised estimate at every step."""

from collections.abc import Callable, Mapping, Sequence

import torch
from diffusers.configuration_utils import register_to_config

from ...core.callback import Callback, Proceed
from ...core.step import Step
from .decoding import images_of
from .labels import Labels, class_ids
from .temperatures import calibration


class CalibrationTrace(Callback):
    """Observes: collects a classifier's logits on the denoised estimates, and changes nothing.

    The estimate follows from the prediction of the callbacks before it in the list; alone, from the pipeline's own. The
    class that was asked for is the true one: the metrics then say how well `softmax(logits)` matches the probability of
    that class given the noisy sample, as guidance assumes. Logits stay on the device until they are asked for.

        trace = CalibrationTrace(classifier)
        with attach(pipe, trace):
            for classes in batches:
                pipe(classes, ...)
        rows = trace.report()

    Args:
        classifier: (B, C, H, W) in [-1, 1], the model's range, to logits (B, K); the one that guides, with smooth
            activations if it has them then, since they change its logits.
        labels: class numbers of the classifier, one per sample or one for all; may be set again before each call of the
            pipeline. None takes the `class_labels` of the pipeline's own call.
        decoder: for latent models: an autoencoder, or a function from the model's latents to images. None takes the
            pipeline's `vae`; a pipeline without one works in pixels, and its estimates are clipped to [-1, 1].
        chunk: images at once in decoder and classifier; None for all.
        start, stop: see `Callback`.
    """

    @register_to_config
    def __init__(
        self,
        classifier: Callable[[torch.Tensor], torch.Tensor],
        labels: Labels = None,
        decoder: Callable[[torch.Tensor], torch.Tensor] | None = None,
        chunk: int | None = None,
        start: float = 0.0,
        stop: float = 1.0,
    ):
        super().__init__(start, stop)
        self.classifier, self.labels, self.decoder, self.chunk = classifier, labels, decoder, chunk
        self.clear()

    def clear(self) -> None:
        """Forget what was recorded."""
        self._levels: dict[int, dict[str, torch.Tensor]] = {}
        self._logits: dict[int, list[torch.Tensor]] = {}
        self._labels: list[torch.Tensor] = []
        self._last_index = -1

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        prediction = proceed(step)
        if step.elsewhere:  # a callback further out evaluates the network again
            return prediction
        with torch.no_grad():
            parts = step.to_x0(prediction).split(self.chunk or len(prediction))
            logits = torch.cat([self.classifier(images_of(step, part, self.decoder)) for part in parts])
        if step.index <= self._last_index or not self._labels:  # the pipeline was called again
            self._labels.append(class_ids(self.labels, step, len(logits)))
        self._last_index = step.index
        self._levels[step.index] = {"timestep": step.timestep, "alpha": step.alpha, "sigma": step.sigma}
        self._logits.setdefault(step.index, []).append(logits)
        return prediction

    def collected(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (steps, N, K) float32 and labels (N,) int64 on the CPU, of all calls. The one transfer happens here.

        Raises:
            ValueError: nothing was recorded, or calls of different numbers of steps.
        """
        if not self._logits:
            raise ValueError("nothing was recorded: call the pipeline while the trace is attached, then ask")
        counts = {len(parts) for parts in self._logits.values()}
        if len(counts) > 1:
            raise ValueError("the pipeline was called with different numbers of steps; use a trace for each")
        logits = [torch.cat(self._logits[index]).float() for index in sorted(self._logits)]
        return torch.stack(logits).cpu(), torch.cat(self._labels).cpu()

    def levels(self) -> list[dict[str, float]]:
        """For each step `step`, `timestep`, `alpha` and `sigma`, in the order of the logits."""
        return [
            {"step": index, **{name: float(value) for name, value in self._levels[index].items()}}
            for index in sorted(self._levels)
        ]

    def report(self, tau: float | Sequence[float] = 1.0, bins: int = 15) -> list[dict]:
        """The rows of `calibration_rows` for what was collected."""
        return calibration_rows(self.levels(), *self.collected(), tau, bins)


def calibration_rows(
    levels: Sequence[Mapping[str, float]],
    logits: torch.Tensor,
    labels: torch.Tensor,
    tau: float | Sequence[float] = 1.0,
    bins: int = 15,
) -> list[dict]:
    """A row for each noise level: what `levels` says of it, then `tau`, `samples` and the metrics of `calibration`.

    Args:
        levels: one mapping per step, as `CalibrationTrace.levels` gives them.
        logits, labels: (steps, N, K) and (N,).
        tau: factor on the logits, a number or one per step; see `fit_temperature`.
        bins: of the expected calibration error.
    """
    taus = [tau] * len(logits) if isinstance(tau, float | int) else tau
    return [
        {**level, "tau": factor, "samples": len(labels), **calibration(factor * values, labels, bins)}
        for level, values, factor in zip(levels, logits, taus, strict=True)
    ]
