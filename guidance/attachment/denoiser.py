"""The network in one step of a pipeline, for callbacks: what it said, and the way to evaluate it elsewhere."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..core.levels import Level, level_at_index, level_at_timestep, network_input
from ..core.next_sample import repeats
from ..core.step import Denoiser, Step
from .families import Call, Family, Observed, prediction_of
from .recorder import Recorder, is_compiled, kept
from .run import Run


class StepDenoiser:
    """The `Denoiser` of one step; it serves until the scheduler goes on.

    Attributes:
        made: evaluations that callbacks asked for.
        reused: what the network returned, call by call, where a callback gave it for the pipeline's next evaluation.
    """

    def __init__(
        self,
        observed: Observed,
        family: Family,
        run: Run,
        recorder: Recorder,
        arguments: Mapping,
    ):
        self.observed, self.family, self.run, self.scheduler = observed, family, run, run.scheduler
        self.made = 0
        self.reused: tuple[tuple[Call, object], ...] = ()
        self._recorder, self._arguments = recorder, arguments
        self._open = True
        self._latest: tuple[torch.Tensor, list[tuple[Call, object]]] | None = None
        self.post_processed = False  # so that the sampler uses another prediction than the callbacks'

    def close(self) -> None:
        self._open, self._latest = False, None

    @property
    def module(self) -> torch.nn.Module:
        return self.observed.calls[0].module

    @property
    def missing(self) -> str:
        name = type(self.observed.pipe).__name__
        weight = self.family.weight
        value = getattr(self.observed.pipe, weight, None) if isinstance(weight, str) else None
        if isinstance(value, int | float) and value > 1:
            return (
                f"this callback needs the unconditional prediction, and {name} ran without that pass although its "
                f"{weight} is {value:g}; its network may take guidance as an input, or want a negative prompt"
            )
        return (
            f"this callback needs the unconditional prediction, and {name} ran without that pass; "
            f"set {self.family.enable}"
        )

    def number_of(self, index: int) -> int:
        return self.run.number_of(index)

    def component(self, name: str) -> object | None:
        return getattr(self.observed.pipe, name, None)

    def level(self, timestep: torch.Tensor | None, index: int | None) -> Level:
        if index is not None:
            return level_at_index(self.scheduler, index)
        if timestep is None:
            raise ValueError("the noise level of neither a time nor a position of the grid was asked for")
        return level_at_timestep(self.scheduler, timestep)

    def grid(self, index: int) -> torch.Tensor:
        return self.scheduler.timesteps[index]

    def conditioning(self, name: str) -> torch.Tensor:
        call, half, halves = self._conditional([each.output for each in self.observed.calls])
        arguments = self.observed.calls[call].arguments
        value = arguments.get(name)
        if not isinstance(value, torch.Tensor):
            has = ", ".join(sorted(key for key, value in arguments.items() if isinstance(value, torch.Tensor)))
            raise ValueError(
                f"the network of {type(self.observed.pipe).__name__} is given no tensor {name!r} in this step; it is "
                f"given {has}"
            )
        return value.chunk(halves)[half]

    def learned_variance(self, step: Step) -> torch.Tensor | None:
        if not step.elsewhere:
            outputs = [call.output for call in self.observed.calls]
        elif self._latest is not None and self._latest[0] is step.sample:
            outputs = [prediction_of(output) for _, output in self._latest[1]]
        else:
            return None
        call, half, halves = self._conditional(outputs)
        output, like = outputs[call], step.sample
        if isinstance(output, list) or like.ndim < 4 or output.shape[1:] != (2 * like.shape[1], *like.shape[2:]):
            return None
        return output.chunk(halves)[half][:, like.shape[1] :]

    def predict(
        self, sample: torch.Tensor, timestep: torch.Tensor, level: Callable[[], Level]
    ) -> Mapping[str, torch.Tensor]:
        outputs = self.evaluate(sample, timestep, level)
        self.reused = ()  # of an evaluation that is the latest no more
        self._latest = (sample, outputs)
        return self.named(outputs, sample)

    def evaluate(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        level: Callable[[], Level],
        network: torch.nn.Module | None = None,
    ) -> list[tuple[Call, object]]:
        """What the network returns, call by call, or `network` in its place."""
        if not self._open:
            raise RuntimeError("the network can be evaluated only while the pipeline is in the step that was given")
        outputs = []
        with self._recorder.pause():
            for call in self.observed.calls:
                isolation = self.run.isolation(network or call.module)
                outputs.append((call, isolation.evaluate(self._inputs(call, sample, timestep, level))))
        self.made += 1
        return outputs

    def named(self, outputs: list[tuple[Call, object]], sample: torch.Tensor) -> Mapping[str, torch.Tensor]:
        """The predictions in what was returned."""
        return self.family.named([kept(output, call.module) for call, output in outputs], self.observed, sample)

    def with_network(self, network: torch.nn.Module) -> Denoiser:
        return OtherNetwork(self, network)

    def reuse(self, step: Step) -> bool:
        if self._latest is None or self._latest[0] is not step.sample or self.post_processed:
            return False
        if not repeats(self.scheduler, self._arguments) or any(
            is_compiled(call.module) for call in self.observed.calls
        ):
            return False
        self.reused = tuple(self._latest[1])
        return True

    def expected(self, call: Call, sample: torch.Tensor, index: int) -> dict:
        """The arguments of the pipeline's call at `sample` (B, ...), at position `index` of the sampler's grid."""
        return self._inputs(call, sample, self.grid(index), lambda: level_at_index(self.scheduler, index))

    def _inputs(self, call: Call, sample: torch.Tensor, timestep: torch.Tensor, level: Callable[[], Level]) -> dict:
        def scaled(sample: torch.Tensor) -> torch.Tensor:
            return network_input(self.scheduler, sample, level)

        return self.family.inputs(call, sample, timestep, self.observed, scaled)

    def _conditional(self, outputs: list) -> tuple[int, int, int]:
        """(call, part of it, of how many parts) of the conditional prediction."""
        parts = max(len(outputs[0]) // len(self.family.stepped(self.observed)[1]), 1)
        call, part = divmod(self.family.cond_position(parts * len(outputs)), parts)
        return call, part, parts


class OtherNetwork:
    """The `Denoiser` of a step with another network in the place of the pipeline's own; the rest is the same."""

    def __init__(self, own: StepDenoiser, network: torch.nn.Module):
        self._own, self.module = own, network

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def predict(
        self, sample: torch.Tensor, timestep: torch.Tensor, level: Callable[[], Level]
    ) -> Mapping[str, torch.Tensor]:
        outputs = self._own.evaluate(sample, timestep, level, self.module)
        for call, output in outputs:
            _check_like(self.module, prediction_of(output), call.output)
        return self._own.named(outputs, sample)

    def with_network(self, network: torch.nn.Module) -> Denoiser:
        return OtherNetwork(self._own, network)

    def learned_variance(self, step: Step) -> None:
        """Not known: it is the pipeline's own network whose variance is kept."""

    def reuse(self, step: Step) -> bool:
        return False  # the pipeline's next evaluation is of its own network


def _check_like(network: torch.nn.Module, found: Any, own: Any) -> None:
    if isinstance(own, torch.Tensor) and (not isinstance(found, torch.Tensor) or found.shape != own.shape):
        got = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise ValueError(
            f"the other network, {type(network).__name__}, returned {got} where the pipeline's own returned "
            f"{tuple(own.shape)}; give one of the same inputs and outputs"
        )
