"""Explain what a scheduler is given by the predictions that a network made before it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from ..core.combine import classifier_free_guidance
from ..core.protocols import Pipeline
from .families import Evaluation, PostProcessing, formulas


TOLERANCE = 2e-5  # relative, in float32: right families are at 1e-7, wrong ones at 0.01 and more
_HALF = (torch.bfloat16, torch.float16)
Weight = str | Callable | None


def _projected(cond: torch.Tensor, uncond: torch.Tensor, weight: float) -> torch.Tensor:
    """As diffusers' guider of projected guidance at its neutral settings, in a part along cond and one across it."""
    from diffusers.guiders.adaptive_projected_guidance import normalized_guidance

    return normalized_guidance(cond, uncond, weight)


# Every way in which diffusers writes the combination: they round differently.
FORMULAS: tuple[Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor], ...] = (
    lambda c, u, w: u + w * (c - u),
    lambda c, u, w: c + (w - 1) * (c - u),
    lambda c, u, w: w * c + (1 - w) * u,
    lambda c, u, w: w * c - (w - 1) * u,
    lambda c, u, w: torch.lerp(u, c, w),
    _projected,
)


@dataclass(frozen=True)
class Explanation:
    """How `output` follows from the predictions.

    Attributes:
        kind: "single", "plain", "mixture", "sliced" or "preconditioned": the kind of family.
        strongest: position of the conditional prediction.
        negated: whether the network predicts minus what the scheduler is given.
        weight: w of the combination, the largest where there are several.
        told: the pipeline's attribute that holds it, or a function that finds it; None where it is a local variable.
        residual: relative distance from `output`; 0 where it is reproduced to the bit.
        post_processing: what the pipeline did after its combination, or None.
        dim: along which the weights of a "sliced" one differ.
    """

    kind: str
    strongest: int = 0
    negated: bool = False
    weight: float | None = None
    told: Weight = None
    residual: float = 0.0
    post_processing: PostProcessing | None = None
    dim: int = 1


def explain(
    pipe: Pipeline, predictions: list[torch.Tensor], output: torch.Tensor, sample: torch.Tensor
) -> Explanation | None:
    """How `output` (B, ...) follows from `predictions`, each (B, ...) in the network's dtype; None if it is not seen.

    All tensors are on the host. In half precision only what reproduces `output` to the bit is an explanation; in
    float32 what comes as near as rounding.
    """
    narrow = predictions[0].dtype in _HALF
    if output.dtype in _HALF:
        return _to_the_bit(pipe, [prediction.to(output.dtype) for prediction in predictions], output)
    found = _linear(pipe, [prediction.to(output.dtype) for prediction in predictions], output, sample)
    return _to_the_bit(pipe, predictions, output) if found is None and narrow else found


def told_weights(pipe: Pipeline) -> Iterator[tuple[float, Weight]]:
    """Weights that the pipeline tells, and how it tells them."""
    for name in ("guidance_scale", "_guidance_scale", "true_cfg_scale", "_true_cfg_scale"):
        value = getattr(pipe, name, None)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            yield float(value), name
            if name == "guidance_scale":
                yield 1 + float(value), formulas.one_more
    scale = getattr(getattr(pipe, "guider", None), "guidance_scale", None)
    if isinstance(scale, (int, float)):
        yield float(scale), formulas.guider_weight


def _to_the_bit(pipe: Pipeline, predictions: list[torch.Tensor], output: torch.Tensor) -> Explanation | None:
    signs = [(negated, [-p if negated else p for p in predictions]) for negated in (False, True)]
    if len(predictions) == 1:
        equal = (negated for negated, (p,) in signs if torch.equal(p.to(output.dtype), output))
        return next((Explanation("single", negated=negated) for negated in equal), None)
    if len(predictions) != 2:
        return None
    for negated, pair in signs:
        for strongest in (0, 1):
            cond, uncond = pair[strongest], pair[1 - strongest]
            for weight, told in _weights(pipe, cond, uncond, output):
                if any(torch.equal(formula(cond, uncond, weight).to(output.dtype), output) for formula in FORMULAS):
                    return Explanation("plain", strongest, negated, weight, told)
            for weight, told in told_weights(pipe):
                for after in formulas.AFTER:
                    result = _processed(after, Evaluation(pipe, None, cond, uncond, output), weight)
                    if weight > 1 and result is not None and torch.equal(result.to(output.dtype), output):
                        return Explanation("plain", strongest, negated, weight, told, 0.0, after)
    return None


def _weights(
    pipe: Pipeline, cond: torch.Tensor, uncond: torch.Tensor, output: torch.Tensor
) -> Iterator[tuple[float, Weight]]:
    """Weights above 1 near what was used: those that the pipeline tells, and short decimals."""
    direction = (cond - uncond).double()
    near = float(((output - uncond).double() * direction).sum() / direction.square().sum().clamp_min(1e-30))
    if near <= 1:
        return
    for value, told in told_weights(pipe):
        if abs(value - near) < 0.05 * near:
            yield value, told
    for digits in range(4):
        yield round(near, digits), None


def _linear(
    pipe: Pipeline, predictions: list[torch.Tensor], output: torch.Tensor, sample: torch.Tensor
) -> Explanation | None:
    """A linear combination of the predictions (and the sample), or of two of them followed by something known."""
    shares, residual = least_squares(predictions, output)
    total = sum(shares)
    if residual <= TOLERANCE and abs(abs(total) - 1) < 1e-3:
        return _named(pipe, [share / total for share in shares], total < 0, residual)
    if len(predictions) == 2:
        found = _after(pipe, predictions, output) or _sliced(predictions, output)
        if found is not None:
            return found
    if len(predictions) < 3 and sample.shape == output.shape:
        (*shares, _), residual = least_squares([*predictions, sample.to(output.dtype)], output)
        if residual <= TOLERANCE and abs(sum(shares)) > 1e-6:
            normal = [share / sum(shares) for share in shares]
            strongest = max(range(len(normal)), key=normal.__getitem__)
            told = _told(pipe, normal[strongest])
            return Explanation("preconditioned", strongest, False, normal[strongest], told, residual)
    return None


def _named(pipe: Pipeline, shares: list[float], negated: bool, residual: float) -> Explanation:
    """The explanation by normalised coefficients, with its weight as the pipeline tells it."""
    strongest = max(range(len(shares)), key=shares.__getitem__)
    weight = shares[strongest]
    if len(shares) == 1:
        return Explanation("single", 0, negated, None, None, residual)
    if len(shares) > 2:
        return Explanation("mixture", strongest, negated, weight, None, residual)
    told = _told(pipe, weight)
    if told is None and min(shares) > -1e-3 and _told(pipe, 1 - weight) is not None:
        strongest, weight, told = 1 - strongest, 1 - weight, _told(pipe, 1 - weight)
    return Explanation("plain", strongest, negated, weight, told, residual)


def _told(pipe: Pipeline, weight: float) -> Weight:
    return next((told for value, told in told_weights(pipe) if abs(value - weight) <= 1e-3 * abs(value)), None)


def _after(pipe: Pipeline, predictions: list[torch.Tensor], output: torch.Tensor) -> Explanation | None:
    """A combination of two followed by one of the known kinds of post-processing, at a weight that the pipeline tells,
    or at that of the direction that is left."""
    for negated in (False, True):
        pair = [-p if negated else p for p in predictions]
        for strongest in (0, 1):
            cond, uncond = pair[strongest], pair[1 - strongest]
            evaluation = Evaluation(pipe, None, cond, uncond, output)
            direction = formulas.direction_weight(evaluation)
            options: list[tuple[float | torch.Tensor, Weight]] = [*told_weights(pipe)]
            for weight, told in [*options, (direction, formulas.direction_weight)]:
                if float(torch.as_tensor(weight).max()) <= 1:
                    continue
                for after in formulas.AFTER:
                    result = _processed(after, evaluation, weight)
                    if result is not None and (residual := distance(result, output)) <= TOLERANCE:
                        weight = float(torch.as_tensor(weight).max())
                        return Explanation("plain", strongest, negated, weight, told, residual, after)
    return None


def _processed(after: PostProcessing, evaluation: Evaluation, weight: float | torch.Tensor) -> torch.Tensor | None:
    try:
        active = after.active(evaluation)
    except (AttributeError, TypeError):
        return None  # the pipeline does not have what it reads
    plain = classifier_free_guidance(evaluation.cond, evaluation.uncond, weight)
    return after.apply(plain, evaluation) if active else None


def _sliced(predictions: list[torch.Tensor], output: torch.Tensor) -> Explanation | None:
    """A weight for each entry of one dimension."""
    first, second = (prediction.double() for prediction in predictions)
    for dim in range(1, output.ndim):
        others = [other for other in range(output.ndim) if other != dim]
        for negated in (False, True):
            base, direction = (-first, first - second) if negated else (first, second - first)
            square = direction.square().sum(others, keepdim=True)
            weights = ((output.double() - base) * direction).sum(others, keepdim=True) / square.clamp_min(1e-30)
            residual = distance(base + weights * direction, output)
            low, high = float(weights.min()), float(weights.max())
            if residual <= TOLERANCE and high > 1.001 and low > -1e-3:
                return Explanation("sliced", 1, negated, high, None, residual, dim=dim)
            if residual <= TOLERANCE and low < -0.001 and high < 1.001:
                return Explanation("sliced", 0, negated, 1 - low, None, residual, dim=dim)
    return None


def least_squares(columns: list[torch.Tensor], target: torch.Tensor) -> tuple[list[float], float]:
    """Coefficients of `columns` nearest to `target`, in float64, and the relative distance that is left."""
    basis = torch.stack([column.double().flatten() for column in columns], 1)
    norms = basis.norm(dim=0).clamp_min(1e-300)
    wanted = target.double().flatten()[:, None]
    solution = torch.linalg.lstsq(basis / norms, wanted, driver="gelsd").solution
    residual = (wanted - basis / norms @ solution).norm() / wanted.norm().clamp_min(1e-300)
    return (solution[:, 0] / norms).tolist(), float(residual)


def distance(result: torch.Tensor, wanted: torch.Tensor) -> float:
    """Relative distance, by norms."""
    return float((result.double() - wanted.double()).norm() / wanted.double().norm().clamp_min(1e-300))
