"""EluCD: guidance by any off-the-shelf classifier, calibrated (arXiv 2310.11311, ICLR 2024).

The classifier was not trained on noise. It looks at the denoised estimate, detached from the denoiser, so a step costs
one backward pass of the classifier; its activations are smoothed (`smoothed`), and joint and marginal log-probability
have temperatures of their own. How strongly the gradient acts is told by a schedule (`classifier_schedules`).
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from diffusers.configuration_utils import register_to_config

from ...core.bounds import bounded, keeps_noise
from ...core.callback import Callback, Proceed
from ...core.step import Step
from ...networks.classifiers import load_classifier
from ...networks.image_classifier import ImageClassifier
from .decoding import latent_decoder
from .gradient import class_gradient
from .schedules import (
    ancestral,
    denoised_variance,
    edm_input,
    edm_shift,
    edm_strength,
    landing,
    learned_variance,
    variance_shift,
)
from .smooth import guiding


#: The constants of each schedule; those of `ddpm` and `edm` are the authors'.
PRESETS = {
    "ddpm": {"scale": 1.0, "gamma": 0.3, "tau_joint": 1.0, "tau_marginal": 0.5, "softplus": 3.0, "look_at": "estimate"},
    "edm": {"scale": 0.004, "gamma": 0.3, "tau_joint": 1.0, "tau_marginal": 0.0, "softplus": 5.0, "look_at": "sample"},
    "x0": {"scale": 1.0, "gamma": 0.3, "tau_joint": 1.0, "tau_marginal": 0.5, "softplus": 3.0, "look_at": "estimate"},
}


class ClassifierGuidance(Callback):
    """Moves what `proceed` returned towards a class, by the gradient of a classifier.

    Stands in a list after what combines predictions: `[CFG(2.0), ClassifierGuidance(classifier)]`. It needs no
    unconditional pass.

    Args:
        classifier: from pictures (B, C, H, W) float32 in about [-1, 1] to logits (B, K): any torch module in eval mode,
            used through a copy that shares its weights, in its own dtype, as `ImageClassifier` does ("authors"); or a
            function; or what `load_classifier` takes, which is the form that can be saved.
        schedule: "x0" for any sampler, flow models too: the estimate moves by its variance given the sample
            (`denoised_variance`). "ddpm", the authors' shift of the mean of ancestral steps, in units of x0. "edm", the
            authors' shift of the sample, for deterministic samplers; theirs before network call i + 1 is made by step i
            here, so that it costs no further call.
        scale, gamma: strength, and height of the bump in the middle of the trajectory; for "edm" the scale is `g_max`.
        tau_joint, tau_marginal: see `class_log_prob`.
        softplus: beta of `smoothed`; 0 keeps the activations. By default a network without ReLU is taken as it is.
        look_at: "estimate", the denoised one, or "sample", the noisy one.
            Each of these six is the schedule's own in `PRESETS` where it is None.
        labels: class ids of the classifier: a number, or one for each picture. None takes the `class_labels` of the
            pipeline's own call, which the classifier must number alike.
        decoder: for latent models: an autoencoder (`AutoencoderTiny` is cheap), the folder or name of an
            `AutoencoderTiny`, or a function from the model's latents to pictures. None takes the pipeline's `vae`; a
            pipeline without one works in pixels, and the classifier sees its estimate clipped to [-1, 1].
        data_std: standard deviation of x0, for schedule "x0"; None is 0.5 for pixels and 1 for latents.
        chunk: pictures at once in the gradient; None for all, or one where latents are decoded.
        start, stop: see `Callback`.

    Attributes:
        replaced: names of the activations that were smoothed.

    Raises:
        ValueError: an unknown schedule or `look_at`, a number out of range, a classifier with a part in training mode,
            `softplus` above 0 where nothing can be replaced; when called, no labels, labels or a decoder that do not
            fit, or a module that returns no logits (B, K).

    Where the scheduler bounds the estimate (`clip_sample`, the default of DDPM, or `thresholding`) the estimate is
    bounded first and moved afterwards, as in the authors' code; the scheduler does not bound it again in that step.
    DDIM is the exception: it keeps the noise of the unbounded estimate, through which a shift would act backwards. So
    its estimate is left alone where it is out of range, and is moved no further than to the end of the range.

    Schedule "ddpm" takes the variance that the network has learned where it returns one (twice as many channels as the
    sample's), also if the pipeline drops it, and the variance of the posterior otherwise.
    """

    words = {"schedule": tuple(PRESETS), "look_at": ("estimate", "sample")}  # noqa: RUF012 (see Callback)

    @register_to_config
    def __init__(
        self,
        classifier: Callable[[torch.Tensor], torch.Tensor] | str | Mapping,
        schedule: str = "x0",
        scale: float | None = None,
        gamma: float | None = None,
        tau_joint: float | None = None,
        tau_marginal: float | None = None,
        softplus: float | None = None,
        look_at: str | None = None,
        labels: int | Sequence[int] | None = None,
        decoder: Callable[[torch.Tensor], torch.Tensor] | str | None = None,
        data_std: float | None = None,
        chunk: int | None = None,
        start: float = 0.0,
        stop: float = 1.0,
    ):
        super().__init__(start, stop)
        if schedule not in PRESETS:
            raise ValueError(f"schedule must be one of {', '.join(PRESETS)}, got {schedule!r}")
        given = {
            "scale": scale,
            "gamma": gamma,
            "tau_joint": tau_joint,
            "tau_marginal": tau_marginal,
            "softplus": softplus,
            "look_at": look_at,
        }
        constants = PRESETS[schedule] | {name: value for name, value in given.items() if value is not None}
        self.look_at = constants.pop("look_at")
        if self.look_at not in ("estimate", "sample"):
            raise ValueError(f"look_at must be 'estimate' or 'sample', got {self.look_at!r}")
        if bad := [name for name, value in constants.items() if not (math.isfinite(value) and value >= 0)]:
            raise ValueError(f"{', '.join(bad)}: finite numbers, at least 0, are wanted")
        if (data_std is not None and not data_std > 0) or (chunk is not None and chunk < 1):
            raise ValueError(f"data_std and chunk must be above 0, got {data_std} and {chunk}")
        ids = [] if labels is None else [labels] if isinstance(labels, int) else list(labels)
        if any(each < 0 for each in ids):
            raise ValueError(f"labels are class ids from 0, got {labels}")
        self._highest = max(ids, default=0)
        self.scale, self.gamma = constants["scale"], constants["gamma"]
        self.tau_joint, self.tau_marginal = constants["tau_joint"], constants["tau_marginal"]
        self.schedule, self.labels, self.data_std, self.chunk = schedule, labels, data_std, chunk
        if isinstance(classifier, str):
            classifier = load_classifier(classifier)
        elif isinstance(classifier, Mapping):
            classifier = load_classifier(**classifier)
        self.classifier, self.replaced = guiding(classifier, constants["softplus"], strict=softplus is not None)
        if isinstance(classifier, torch.nn.Module) and not isinstance(classifier, ImageClassifier):
            self.classifier = ImageClassifier(self.classifier, name=type(classifier).__name__)
        self._decoder = _tiny(decoder) if isinstance(decoder, str) else decoder
        self._decode: Callable[[torch.Tensor], torch.Tensor] | None = None
        self._decodes: object = None  # what `_decode` was made of

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        prediction = proceed(step)
        x0, scheduler = step.to_x0(prediction).detach(), step.denoiser.scheduler
        if keeps_noise(scheduler):
            return self._guide_within_bounds(step, prediction, x0)
        if "bounds" not in step.handled:
            x0 = bounded(scheduler, x0)
        shift = self._shift(step, x0)
        if shift is None:
            return prediction
        step.handled.add("bounds")
        return step.from_x0(x0 + shift)

    def _guide_within_bounds(self, step: Step, prediction: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
        """DDIM clips x0 but keeps the noise: where it clips, a shift would act through the noise alone, backwards."""
        config = step.denoiser.scheduler.config
        shift = self._shift(step, x0)
        if shift is None:
            return prediction
        moved = x0 + shift
        if config.get("clip_sample"):
            bound = config.clip_sample_range
            moved = torch.where(x0.abs() <= bound, moved.clamp(-bound, bound), x0)
        return step.from_x0(moved)

    def _shift(self, step: Step, x0: torch.Tensor) -> torch.Tensor | None:
        """Of the estimate (B, ...) in float32, or None."""
        if self.schedule == "x0":
            std = self.data_std or (0.5 if self._decoder_of(step) is None else 1.0)
            variance = denoised_variance((step.alpha, step.sigma), std)
            time = (step.total - 1 - step.index - step.ahead) / step.total
            return variance_shift(self._gradient(step, x0), variance, std**2, time, self.gamma, self.scale)
        index, steps, then, share = landing(step)
        if then is None or (self.schedule == "edm" and index == steps - 1):
            return None
        now = (step.alpha, step.sigma)
        gradient = self._gradient(step, x0)
        if self.schedule == "edm":
            moved = edm_shift(gradient, step.sample, edm_strength(index + 1, steps, self.scale, self.gamma))
            return moved / (share * (then[0] - now[0] * then[1] / now[1]))
        variance, c0 = ancestral(now, then)
        learned = step.denoiser.learned_variance(step)
        if learned is not None:
            before = step.denoiser.level(None, step.grid_index - 1) if step.grid_index else None
            variance = learned_variance(learned, now, then, before)
        # The variance falls along the trajectory.
        largest, _ = ancestral(step.denoiser.level(None, step.first), step.denoiser.level(None, step.first + 1))
        time = (steps - 1 - index) / steps
        return variance_shift(gradient, variance, largest, time, self.gamma, self.scale) / (share * c0)

    def _gradient(self, step: Step, x0: torch.Tensor) -> torch.Tensor:
        decode = self._decoder_of(step)
        if self.look_at == "estimate":
            x = x0 if decode else x0.clamp(-1, 1)
        else:
            x = edm_input(step.sample.float(), step.alpha) if self.schedule == "edm" else step.sample.float()
        if isinstance(self.classifier, torch.nn.Module):
            _place(self.classifier, x.device)

        def logits(part: torch.Tensor) -> torch.Tensor:
            found = self.classifier(decode(part) if decode else part)
            if self._highest >= found.shape[-1]:  # on a GPU the index would end the process's use of it
                raise ValueError(f"label {self._highest}, but the classifier has {found.shape[-1]} classes, from 0")
            return found

        chunk = self.chunk or (1 if decode else None)
        return class_gradient(logits, x, self._labels(step, x), self.tau_joint, self.tau_marginal, chunk)

    def _labels(self, step: Step, x: torch.Tensor) -> torch.Tensor:
        if self.labels is None:
            return step.conditioning("class_labels")
        if isinstance(self.labels, int):
            return torch.full((len(x),), self.labels, device=x.device)
        if len(self.labels) != len(x):
            raise ValueError(
                f"labels has {len(self.labels)} class ids for {len(x)} pictures; give one for each, or one"
            )
        return torch.as_tensor(self.labels).to(x.device, non_blocking=True)

    def _decoder_of(self, step: Step) -> Callable[[torch.Tensor], torch.Tensor] | None:
        source = self._decoder or step.denoiser.component("vae")
        if source is not self._decodes:
            self._decodes = source
            self._decode = latent_decoder(source) if isinstance(source, torch.nn.Module) else source
        if isinstance(self._decoder, torch.nn.Module):
            _place(self._decoder, step.sample.device)
        return self._decode


def _tiny(name: str) -> torch.nn.Module:
    from diffusers import AutoencoderTiny  # lazy

    return AutoencoderTiny.from_pretrained(name, use_safetensors=True).eval()


def _place(module: torch.nn.Module, device: torch.device) -> None:
    parameter = next(module.parameters(), None)
    if parameter is not None and parameter.device != device:
        module.to(device)
