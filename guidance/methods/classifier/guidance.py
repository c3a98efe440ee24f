"""EluCD: guidance by any off-the-shelf classifier, calibrated (arXiv 2310.11311, ICLR 2024).

The classifier was not trained on noise. It is applied to the denoised estimate, detached from the denoiser, so a step
costs one backward pass of the classifier; its activations are smoothed (`smoothed`), and joint and marginal
log-probability have separate temperatures (`Reading`). `Strength` sets how far the gradient moves the estimate.
"""

from collections.abc import Callable, Mapping

import torch
from diffusers.configuration_utils import register_to_config

from ...core.bounds import bounded, keeps_noise
from ...core.callback import Callback, Proceed
from ...core.step import Step
from ...networks.classifiers import classifier_of
from ...networks.image_classifier import ImageClassifier
from .decoding import decoder_of, place
from .gradient import class_gradient
from .labels import Labels, class_ids, highest, plain_labels
from .reading import DEFAULT_READING, LOOK_AT, Reading
from .schedules import edm_input
from .smooth import guiding
from .strength import DEFAULT_STRENGTH, SCHEDULES, Strength


class ClassifierGuidance(Callback):
    """Moves the denoised estimate towards a class, by the gradient of any image classifier (EluCD).

    Put it after what combines predictions: `[CFG(2.0), ClassifierGuidance(classifier)]`. It needs no unconditional
    pass. In files and on command lines the fields of `strength` and `reading` are arguments.

    Neutral: `scale=0` (schedule "edm" keeps a factor of 1e-5).

    Args:
        classifier: from images (B, C, H, W) float32 in about [-1, 1] to logits (B, K): any torch module in eval mode,
            used through a copy that shares its weights, in its own dtype, as `ImageClassifier` does ("authors"); or a
            function; or what `load_classifier` takes, which is the form that can be saved.
        strength: how far the gradient moves the estimate.
        reading: how the classifier is read.
        labels: class ids of the classifier: a number, or one for each image. None takes the `class_labels` of the
            pipeline's own call, which the classifier must number alike.
        decoder: for latent models: an autoencoder (`AutoencoderTiny` is cheap), the folder or name of an
            `AutoencoderTiny`, or a function from the model's latents to images. None takes the pipeline's `vae`; a
            pipeline without one works in pixels, and the classifier sees its estimate clipped to [-1, 1].
        chunk: images at once in the gradient; None for all, or one where latents are decoded.
        start, stop: see `Callback`.

    Attributes:
        strength: as given. reading: with the schedule's own values where none were given.
        replaced: names of the activations that were smoothed.

    Raises:
        ValueError: a number out of range, a classifier with a part in training mode, `softplus` above 0 where nothing
            can be replaced; when called, no labels, labels or a decoder that do not fit, or a module that returns no
            logits (B, K).

    Where the scheduler bounds the estimate (`clip_sample`, the default of DDPM, or `thresholding`) the estimate is
    bounded first and moved afterwards, as in the authors' code; the scheduler does not bound it again in that step.
    DDIM is the exception: it keeps the noise of the unbounded estimate, through which a shift would act backwards. So
    its estimate is left alone where it is out of range, and is moved no further than to the end of the range.

    Schedule "ddpm" takes the variance that the network has learned where it returns one (twice as many channels as the
    sample's), also if the pipeline drops it, and the variance of the posterior otherwise.
    """

    passes_on = True
    words = {"schedule": tuple(SCHEDULES), "look_at": LOOK_AT}  # noqa: RUF012 (see Callback)

    @register_to_config
    def __init__(
        self,
        classifier: Callable[[torch.Tensor], torch.Tensor] | str | Mapping,
        strength: Strength = DEFAULT_STRENGTH,
        reading: Reading = DEFAULT_READING,
        labels: Labels = None,
        decoder: Callable[[torch.Tensor], torch.Tensor] | str | None = None,
        chunk: int | None = None,
        start: float = 0.0,
        stop: float = 1.0,
    ):
        super().__init__(start, stop)
        if chunk is not None and chunk < 1:
            raise ValueError(f"chunk must be above 0, got {chunk}")
        self.strength, self.reading = strength, reading.of_schedule(strength.schedule)
        self.labels, self.chunk = plain_labels(labels), chunk
        self._highest = highest(self.labels)
        given = classifier_of(classifier)
        self.classifier, self.replaced = guiding(given, self.reading.softplus, strict=reading.softplus is not None)
        if isinstance(self.classifier, torch.nn.Module) and not isinstance(given, ImageClassifier):
            self.classifier = ImageClassifier(self.classifier, name=type(given).__name__)
        self.decoder = _tiny(decoder) if isinstance(decoder, str) else decoder

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        prediction = proceed(step)
        x0, scheduler = step.to_x0(prediction).detach(), step.denoiser.scheduler
        keeps = keeps_noise(scheduler)
        if not keeps and "bounds" not in step.handled:
            x0 = bounded(scheduler, x0)
        decode = decoder_of(step, self.decoder)
        shift = self.strength.shift(step, lambda: self._gradient(step, x0, decode), latents=decode is not None)
        if shift is None:
            return prediction
        if keeps:
            return step.from_x0(_within_bounds(scheduler.config, x0, x0 + shift))
        step.handled.add("bounds")
        return step.from_x0(x0 + shift)

    def _gradient(
        self, step: Step, x0: torch.Tensor, decode: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> torch.Tensor:
        if isinstance(self.classifier, torch.nn.Module):
            place(self.classifier, x0.device)

        def logits(part: torch.Tensor) -> torch.Tensor:
            found = self.classifier(decode(part) if decode else part)
            if self._highest >= found.shape[-1]:  # on a GPU a bad index makes the device unusable
                raise ValueError(f"label {self._highest}, but the classifier has {found.shape[-1]} classes, from 0")
            return found

        x = self._seen(step, x0, clipped=decode is None)
        chunk = self.chunk or (1 if decode else None)
        ids, taus = class_ids(self.labels, step, len(x)), (self.reading.tau_joint, self.reading.tau_marginal)
        return class_gradient(logits, x, ids, *taus, chunk)

    def _seen(self, step: Step, x0: torch.Tensor, clipped: bool) -> torch.Tensor:
        """(B, ...) what the classifier looks at, before it is decoded."""
        if self.reading.look_at == "estimate":
            return x0.clamp(-1, 1) if clipped else x0
        sample = step.sample.float()
        return edm_input(sample, step.alpha) if self.strength.schedule == "edm" else sample


def _within_bounds(config: Mapping, x0: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """DDIM clips x0 but keeps the noise: where it clips, a shift would act through the noise alone, backwards."""
    if not config.get("clip_sample"):
        return moved
    bound = config["clip_sample_range"]
    return torch.where(x0.abs() <= bound, moved.clamp(-bound, bound), x0)


def _tiny(name: str) -> torch.nn.Module:
    from diffusers import AutoencoderTiny  # lazy

    return AutoencoderTiny.from_pretrained(name, use_safetensors=True).eval()
