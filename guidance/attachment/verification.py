"""Check a family against the step that a pipeline just made, whoever said the family: the device is read once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from ..core.combine import classifier_free_guidance, effective_weight
from ..core.levels import convention
from .explain import FORMULAS, TOLERANCE
from .families import Call, Evaluation, Family, Observed, Preconditioned
from .families.layout import Layout
from .families.solve import multiple, wide


_HALF = (torch.bfloat16, torch.float16)


class FamilyError(ValueError):
    """A family does not describe what its pipeline did; the message says what was seen."""


@dataclass(frozen=True)
class Check:
    """`value`, a 0-d tensor, must lie in [low, high]; else `message` is filled with it."""

    value: torch.Tensor
    low: float
    high: float
    message: str


def verify(family: Family, observed: Observed, scaled: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
    """Check every fact of `family` that shows in the step.

    Args:
        observed: with the calls of the family's denoiser.
        scaled: brings a sample to the scale in which the scheduler has the network see it in this step; it returns
            None where that is not known, and any multiple of the sample will do.

    Raises:
        FamilyError: a fact is wrong.
    """
    try:
        _check_space(family, observed)
        _check_form(family, observed)
        checks = list(_checks(family, observed, scaled))
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        if isinstance(error, FamilyError):
            raise
        raise _error(observed, f"it does not fit what the pipeline did, {_first_line(error)}") from error
    device = observed.output.device
    checks += [Check(call.output[0].isfinite().all(), 1, 1, "") for call in observed.calls]
    values = torch.stack([check.value.detach().to(device, torch.float32) for check in checks]).tolist()
    if not all(values[-len(observed.calls) :]):
        return  # the network's own predictions are not finite: nothing can be said of the family
    for check, value in zip(checks, values, strict=True):
        if not check.low <= value <= check.high:
            raise _error(observed, check.message.format(value))


def _checks(family: Family, observed: Observed, scaled: Callable) -> Iterator[Check]:
    output, sample = family.stepped(observed)
    guided = family.is_guided(observed)
    cond, uncond = family.split([call.output for call in observed.calls], observed, sample)
    if family.doubled and guided:
        for value in (observed.output, observed.sample):
            first, second = value.chunk(2)
            yield Check((first != second).any(), 0, 0, "its scheduler is not given each sample twice (doubled)")
    if uncond is None:
        yield Check(
            _distance(cond, output), 0, _limit(output), "the network's prediction is {:.2g} from what is stepped"
        )
    else:
        yield from _combination(family, observed, cond, uncond, output)
    for call in observed.calls:
        yield from _arguments(family, observed, call, sample, scaled)


def _combination(
    family: Family, observed: Observed, cond: torch.Tensor, uncond: torch.Tensor, output: torch.Tensor
) -> Iterator[Check]:
    evaluation = Evaluation(observed.pipe, observed.calls[0].module, cond, uncond, output, observed.aside)
    weight = _told(family, evaluation)
    after = family.post_processing
    after = after if after and after.active(evaluation) else None
    used = effective_weight(output, cond, uncond) if weight is None else weight
    smallest = used.min() if isinstance(used, torch.Tensor) else torch.tensor(float(used))
    yield Check(
        smallest,
        0.5,
        torch.inf,
        "its conditional prediction has weight {:.3g}: the family takes the halves the wrong way round (cond_first)",
    )
    message = (
        "its combination is {:.2g} from what is stepped (relative): "
        "one of the family's cond_first, negated, weight, post_processing and prediction's place (outside) is wrong"
    )
    plain = classifier_free_guidance(cond, uncond, used)
    result = after.apply(plain, evaluation) if after else plain
    if output.dtype not in _HALF and observed.calls[0].output[0].dtype not in _HALF:
        yield Check(_distance(result, output), 0, TOLERANCE, message)
        return
    if (
        type(family) is not Family
    ):  # its numbers are found from what is stepped, and its pipeline's formula is not known
        nothing = torch.zeros_like(cond)
        parts = (cond, nothing), (nothing, uncond)
        terms = torch.stack([classifier_free_guidance(c, u, used).float().norm() for c, u in parts])
        off = (result.float() - output.float()).norm() / terms.sum().clamp_min(1e-30)
        eps = max(torch.finfo(x.dtype).eps for x in (output, observed.calls[0].output[0]))
        yield Check(off, 0, eps, message)
        return
    narrow = observed.calls[0].output[0].dtype if output.dtype not in _HALF else output.dtype
    pair = cond.to(narrow), uncond.to(narrow)
    results = [result, *_ways(*pair, weight, used)]
    if after:
        results = [result, *(after.apply(way.to(output.dtype), evaluation) for way in _found_ways(*pair, weight))]
    # Counted, since a mean of ones, which CUDA takes as their sum times 1 / n, can be less than one.
    different = torch.stack([(each.to(output.dtype) != output).sum() for each in results]).min()
    if output.dtype not in _HALF:
        different = torch.where(_distance(result, output) <= TOLERANCE, 0, different)
    count = f"{output.numel()} values of what is stepped to the bit: the family, or its weight, is wrong"
    yield Check(different, 0, 0, "its combination does not reproduce {:.0f} of the " + count)


def _found_ways(
    cond: torch.Tensor, uncond: torch.Tensor, weight: float | torch.Tensor | None
) -> Iterator[torch.Tensor]:
    """The combination at short decimals near a weight that a formula finds."""
    if isinstance(weight, torch.Tensor):
        yield from _ways(cond, uncond, None, weight)


def _ways(
    cond: torch.Tensor, uncond: torch.Tensor, weight: float | torch.Tensor | None, used: float | torch.Tensor
) -> Iterator[torch.Tensor]:
    """The combination by each formula, at the weight told, or at short decimals near the one used."""
    if weight is not None and not isinstance(weight, torch.Tensor):
        yield from (formula(cond, uncond, weight) for formula in FORMULAS)
        return
    near = torch.as_tensor(used).double().mean()
    for digits in range(4):
        # A number times a tensor in half precision is computed in float32, and then rounded.
        value = torch.round(near, decimals=digits).to(torch.float32)
        yield uncond + (value * (cond - uncond).float()).to(cond.dtype)
        yield cond + ((value - 1) * (cond - uncond).float()).to(cond.dtype)


def _told(family: Family, evaluation: Evaluation) -> float | torch.Tensor | None:
    if callable(family.weight):
        return family.weight(evaluation)
    return getattr(evaluation.pipe, family.weight, None) if family.weight else None


def _arguments(
    family: Family, observed: Observed, call: Call, sample: torch.Tensor, scaled: Callable
) -> Iterator[Check]:
    if family.sample is not None:
        given = call.arguments[family.sample]
        given = torch.stack(list(given)) if isinstance(given, (list, tuple)) else given
        held = family.inside.select(given, sample).unflatten(0, (-1, len(sample)))
        if held.shape[0] * len(sample) != len(given) and family.inside == Layout():
            raise ValueError(f"argument {family.sample!r} holds {len(given)} samples")
        expected = None if isinstance(family, Preconditioned) else scaled(sample)
        if expected is None:
            expected = (multiple(sample, held[0]) * sample).to(held.dtype)
        time = call.arguments.get(family.timestep) if family.timestep else None
        pasted = isinstance(time, torch.Tensor) and time.ndim > 1
        limit = 0.9 if pasted else 2e-2 if held.dtype in _HALF else 1e-4
        yield Check(
            _distance(expected.expand(held.shape), held),
            0,
            limit,
            f"its network's argument {family.sample!r} is {{:.2g}} from the sample (sample, inside)",
        )
    if family.timestep is not None and family.time is not None:
        given = call.arguments[family.timestep]
        if not isinstance(given, torch.Tensor):
            given = torch.tensor(given)
        expected = family._time(given, torch.as_tensor(observed.timestep).flatten()[0], observed.pipe)
        expected = torch.where(given == 0, given, expected) if given.ndim > 1 else expected
        near = 8 * torch.finfo(given.dtype).eps if given.is_floating_point() else 0.0
        off = ((given - expected).abs() / expected.abs().clamp_min(1.0)).max()
        yield Check(off, 0, near, f"its network's argument {family.timestep!r} is {{:.2g}} from the family's time")


def _check_form(family: Family, observed: Observed) -> None:
    """What shows without a look at values."""
    name = f"{family.denoiser!r}"
    for call in observed.calls:
        if isinstance(call.output, (list, tuple)) != family.listed:
            kind = "a tensor" if family.listed else "a list of tensors"
            raise _error(observed, f"{name} returns {kind}, and the family says listed={family.listed}")
    found = family.predictions([call.output for call in observed.calls], family.stepped(observed)[0])
    if family.is_guided(observed) != (len(found) > 1):
        raise _error(
            observed, f"{name} makes {len(found)} prediction(s) a sample, and the family's guided says otherwise"
        )
    if len(found) > 1 and len(observed.calls) != family.calls:
        raise _error(
            observed, f"{name} was called {len(observed.calls)} time(s) in the step, and the family says {family.calls}"
        )


def _check_space(family: Family, observed: Observed) -> None:
    scheduler = observed.pipe.scheduler
    said = scheduler.config.get("prediction_type")
    if said is None:
        try:
            said = "flow_prediction" if convention(scheduler) == "flow" else None
        except ValueError:
            said = None
    if family.prediction_type is not None and said is not None and family.prediction_type != said:
        raise _error(
            observed, f"its scheduler steps {said!r}, and the family says prediction_type={family.prediction_type!r}"
        )


def _distance(result: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """0-d relative distance; infinite where either is not finite."""
    dtype = wide(wanted)
    result, wanted = result.to(dtype), wanted.to(dtype)
    off = (result - wanted).norm() / wanted.norm().clamp_min(1e-30)
    return torch.where(off.isfinite(), off, torch.inf)


def _limit(output: torch.Tensor) -> float:
    return 0.0 if output.dtype in _HALF else TOLERANCE


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _error(observed: Observed, reason: str) -> FamilyError:
    return FamilyError(
        f"the family of {type(observed.pipe).__name__} is wrong: {reason}; "
        "pass another one as attach(..., family=...), or none to have it inferred (describe(pipe) prints it)"
    )
