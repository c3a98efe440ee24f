"""Infer how a pipeline guides, from one step: the calls of its networks, and what it gives its scheduler."""

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from ..core.levels import scales_input
from ..core.protocols import Pipeline
from .explain import Explanation, explain
from .families import Call, Family, Layout, Mixture, Observed, Preconditioned, Sliced
from .families.formulas import direction_weight as _direction
from .families.layout import layouts
from .host import observed_on_host
from .roles import SampleArgument, joined, sample_argument, stacked, time_argument, time_law


_MOST = 8  # predictions in one step


class InferenceError(ValueError):
    """How a pipeline guides could not be seen in its step; the message says what was seen and what to pass."""


@dataclass(frozen=True)
class Inferred:
    """A family, and what was seen in the step that it was inferred from.

    Attributes:
        family: with a name of the network's class of its own for its only pipeline.
        observed: the step, with the calls of the denoiser alone, on the host.
        explanation: how the scheduler's prediction follows from those of the network.
    """

    family: Family
    observed: Observed
    explanation: Explanation


def infer(observed: Observed) -> Inferred:
    """The family of `observed.pipe`, from a step in which it guided, or did not.

    `observed.calls` are those of all networks of the pipeline since the step before. The device is read once.

    Raises:
        InferenceError: it cannot be decided.
    """
    _check_given(observed)
    calls = [call for call in observed.calls if _may_predict(call, observed.output, observed.sample)]
    if not calls:
        seen = "; ".join(f"{call.name} -> {_shape(call.output)}" for call in observed.calls[-4:]) or "none"
        raise _error(observed, f"no network returns predictions of the shape that is stepped; those that ran: {seen}")
    host = observed_on_host(observed, calls)
    _check_finite(host)
    doubled = _is_doubled(host)
    output, sample = (x.chunk(2)[0] if doubled else x for x in (host.output, host.sample))
    output = output[:, : sample.shape[1]]
    options = list(_options(host, output, sample))
    if not options:
        raise _error(observed, _unexplained(host, output))
    name, calls, layout, explanation, count = min(options, key=lambda option: _rank(option, sample))
    host = Observed(host.pipe, tuple(calls), host.output, host.timestep, host.sample)
    _check_decided(observed, explanation)
    return Inferred(_family(host, name, layout, explanation, doubled, count, sample), host, explanation)


def _check_given(observed: Observed) -> None:
    for name in ("output", "sample"):
        value = getattr(observed, name)
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            kind = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
            raise _error(observed, f"its scheduler is given {kind}, which no weight can combine")


def _check_finite(host: Observed) -> None:
    values = [host.output, host.sample, *(joined(call.output) for call in host.calls)]
    if not all(value.isfinite().all() for value in values):
        raise _error(host, "its network's predictions, or what its scheduler is given, are not finite")


def _check_decided(observed: Observed, explanation: Explanation) -> None:
    weight = explanation.weight
    if explanation.kind == "plain" and explanation.told is None and weight is not None and weight <= 1 + 1e-3:
        raise _error(
            observed,
            f"its weight is {weight:.4g}, between 0 and 1, so which prediction is conditional is not seen; "
            "run it once with a weight above 1",
        )


def _may_predict(call: Call, output: torch.Tensor, sample: torch.Tensor) -> bool:
    value = stacked(call.output)
    likes = (sample, sample[: max(1, len(sample) // 2)])
    return value is not None and any(
        len(value) % len(like) == 0 and any(True for _ in layouts(value, output[: len(like), : sample.shape[1]]))
        for like in likes
    )


def _is_doubled(host: Observed) -> bool:
    """Whether the scheduler is given each sample twice, as one batch."""
    if len(host.output) % 2 or len(host.sample) != len(host.output):
        return False
    return all(torch.equal(*value.chunk(2)) for value in (host.output, host.sample))


def _options(host: Observed, output: torch.Tensor, sample: torch.Tensor) -> Iterator[tuple]:
    """(name, calls, layout, explanation, predictions) of each network whose predictions explain `output`."""
    for name in dict.fromkeys(call.name for call in host.calls):
        calls = [call for call in host.calls if call.name == name]
        for layout in layouts(joined(calls[0].output), output):
            try:
                values = [layout.select(joined(call.output), output) for call in calls]
            except ValueError:
                continue
            if any(len(value) % len(output) for value in values):
                continue
            found = [prediction for value in values for prediction in value.split(len(output))]
            if len(found) > _MOST:
                continue
            if _all_equal(found):
                continue
            explanation = explain(host.pipe, found, output, sample)
            if explanation is not None:
                yield name, calls, layout, explanation, len(found)


def _all_equal(found: list[torch.Tensor]) -> bool:
    return len(found) > 1 and all(torch.equal(found[0], other) for other in found[1:])


def _rank(option: tuple, sample: torch.Tensor) -> tuple:
    _, calls, _, explanation, _ = option
    arguments = time_argument(calls[0]) is not None, sample_argument(calls[0], sample) is not None
    return -sum(arguments), explanation.residual


def _family(
    host: Observed, name: str, layout: Layout, explanation: Explanation, doubled: bool, count: int, sample: torch.Tensor
) -> Family:
    call, pipe = host.calls[0], host.pipe
    held, time = sample_argument(call, sample), time_argument(call)
    kind: type[Family] = Family
    more: dict[str, Any] = {}
    if explanation.kind == "mixture":
        names = tuple("cond" if index == explanation.strongest else f"other_{index}" for index in range(count))
        kind, more = Mixture, {"strongest": explanation.strongest, "names": names}
    elif explanation.kind == "sliced":
        kind, more = Sliced, {"dim": explanation.dim}
    elif explanation.kind == "preconditioned" or (held is not None and not _scaled_as_usual(pipe, held)):
        kind = Preconditioned
    return kind(
        pipelines=(type(pipe).__name__,),
        denoiser=name,
        enable=_enable(pipe),
        sample=held.name if held else None,
        timestep=time,
        calls=len(host.calls),
        cond_first=explanation.strongest == 0 and count > 1,
        negated=explanation.negated,
        listed=isinstance(call.output, list),
        time=time_law(torch.as_tensor(call.arguments[time]), host.timestep, pipe) if time else None,
        weight=explanation.told or (_direction if explanation.post_processing else None),
        doubled=doubled,
        post_processing=explanation.post_processing,
        second_denoiser=_second(pipe, name, call.module),
        inside=held.layout if held else Layout(),
        outside=layout,
        **more,
    )


def _scaled_as_usual(pipe: Pipeline, held: SampleArgument) -> bool:
    """Whether the network sees the sample itself, or in the scale that the scheduler says."""
    return abs(held.factor - 1) < 1e-2 or scales_input(pipe.scheduler)


def _second(pipe: Pipeline, name: str, module: torch.nn.Module) -> str | None:
    """Another network of the same class, which may take over at another noise level."""
    components = getattr(pipe, "components", {})
    return next((n for n, other in components.items() if n != name and type(other) is type(module)), None)


def _enable(pipe: Pipeline) -> str:
    parameters = inspect.signature(type(pipe).__call__).parameters
    if "true_cfg_scale" in parameters:
        return "true_cfg_scale above 1 and negative_prompt in the pipeline's call"
    return "guidance_scale above 1 in the pipeline's call"


def _unexplained(host: Observed, output: torch.Tensor) -> str:
    counts: dict[str, int] = {}
    for call in host.calls:
        counts[call.name] = counts.get(call.name, 0) + max(1, len(call.output) // len(output))
    seen = ", ".join(f"{count} of {name!r}" for name, count in counts.items())
    if any(_repeats(host, output, name) for name in counts):
        return "the predictions that it combines are equal, so their weights are not seen (equal prompts?)"
    exact = " to the bit" if output.dtype in (torch.bfloat16, torch.float16) else ""
    return f"what its scheduler is given does not follow{exact} from the predictions that were seen, {seen}"


def _repeats(host: Observed, output: torch.Tensor, name: str) -> bool:
    """Whether network `name` has a time, as denoisers do, and all its predictions are equal."""
    calls = [call for call in host.calls if call.name == name and time_argument(call) is not None]
    outputs = [joined(call.output) for call in calls]
    outputs = [half for value in outputs for half in (value.chunk(2) if len(value) > len(output) else [value])]
    return _all_equal(outputs)


def _shape(output: object) -> str:
    value = stacked(output)
    return type(output).__name__ if value is None else str(tuple(value.shape))


def _error(observed: Observed, reason: str) -> InferenceError:
    return InferenceError(
        f"{type(observed.pipe).__name__} cannot be guided as it is called: {reason}. "
        "Describe it: attach(..., family=Family(...)); see docs/families.md"
    )
