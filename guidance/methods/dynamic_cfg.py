"""Dynamic classifier-free guidance by online feedback (arXiv 2509.16131).

At each step an evaluator scores the denoised estimates that several weights would give, and each sample takes the
weight whose estimate scores best. This needs no more evaluations of the network, and one of the evaluator per weight.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from diffusers.configuration_utils import register_to_config

from ..core.callback import Callback, Proceed
from ..core.combine import classifier_free_guidance
from ..core.step import Step
from ..networks.classifiers import classifier_of
from .classifier.decoding import images_of
from .classifier.labels import Labels, class_ids


def best_weight(scores: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(B,) of `weights` (W,): for each sample the one with the highest of `scores` (W, B), the first of equal ones.

    NaN counts as the lowest score.
    """
    return weights[torch.nan_to_num(scores, nan=-math.inf).argmax(0)]


class DynamicCFG(Callback):
    """Lets an evaluator choose each sample's weight among several, at every step.

    It replaces the pipeline's own guidance. With a single weight the evaluator is not asked.

    Notes for `Trace`: `chosen_weight` (B,).

    Neutral: one weight: plain classifier-free guidance, to the bit.

    Args:
        evaluator: a function, or module, of images (B, C, H, W) in about [-1, 1] that returns scores (B,), the higher
            the better, or logits (B, K), of which the log-probability of the label counts; or, for a classifier, what
            `load_classifier` takes: its text, or its arguments by name.
        weights: to choose from.
        labels: class ids for logits: one for all samples, or one for each; None takes the `class_labels` that the
            network is given.
        decoder: a function from estimates x0 to images, or an autoencoder; None takes the pipeline's `vae`, and a
            pipeline without one works in pixels, whose estimate is clipped to [-1, 1].
        start, stop: see `Callback`.

    Raises:
        ValueError: no weight, or one that is not finite; when called, an evaluator that returns neither, or latents
            that the decoder does not fit (give a function for packed or video latents).
    """

    needs_unconditional = True

    @register_to_config
    def __init__(
        self,
        evaluator: Callable[[torch.Tensor], torch.Tensor] | str | Mapping,
        weights: Sequence[float] = (1.0, 2.0, 3.5, 5.0, 7.5),
        labels: Labels = None,
        decoder: Callable[[torch.Tensor], torch.Tensor] | None = None,
        start: float = 0.0,
        stop: float = 1.0,
    ):
        super().__init__(start, stop)
        if not weights or not all(isinstance(w, float | int) and math.isfinite(w) for w in weights):
            raise ValueError(f"weights must be finite numbers, at least one, got {weights!r}")
        self.weights, self.labels, self.decoder = list(weights), labels, decoder
        self.evaluator = classifier_of(evaluator)

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        if len(self.weights) == 1:
            return classifier_free_guidance(step.cond, step.uncond, self.weights[0])
        cond, uncond = step.to_x0(step.cond), step.to_x0(step.uncond)
        with torch.no_grad():
            estimates = (classifier_free_guidance(cond, uncond, weight) for weight in self.weights)
            scores = torch.stack([self._scores(step, images_of(step, each, self.decoder)) for each in estimates])
        weights = torch.tensor(self.weights, dtype=torch.float32).to(scores.device, non_blocking=True)
        chosen = step.notes["chosen_weight"] = best_weight(scores, weights)
        return classifier_free_guidance(step.cond, step.uncond, chosen)

    def _scores(self, step: Step, images: torch.Tensor) -> torch.Tensor:
        found = self.evaluator(images)
        if not isinstance(found, torch.Tensor) or len(found) != len(images) or found.ndim not in (1, 2):
            got = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
            raise ValueError(
                f"the evaluator returned {got} for {len(images)} images; it returns scores ({len(images)},) or logits "
                f"({len(images)}, K)"
            )
        if found.ndim == 1:
            return found.float()
        ids = class_ids(self.labels, step, len(found)).to(found.device)
        return found.float().log_softmax(1).gather(1, ids[:, None])[:, 0]
