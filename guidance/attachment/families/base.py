"""The vocabulary in which a family of pipelines is described."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...core.protocols import Pipeline
from .layout import PLAIN, Layout
from .observed import Call, Observed, Output


@dataclass(frozen=True)
class Evaluation:
    """One guided evaluation of the network, as a pipeline made it: what the formulas of a family may read.

    All predictions are (B, ...), in the space and the sign that the scheduler's `step` expects, and in the dtype in
    which the pipeline combines.

    Attributes:
        pipe: the pipeline.
        module: the denoiser that ran (of several, the one of this step); None where an evaluation is only tried.
        cond, uncond: the two predictions.
        output: what the pipeline gave the scheduler: combined and post-processed.
        aside: output of the last call that does not belong to classifier-free guidance, or None.
    """

    pipe: Pipeline
    module: torch.nn.Module | None
    cond: torch.Tensor
    uncond: torch.Tensor
    output: torch.Tensor
    aside: Output | None = None


@dataclass(frozen=True)
class PostProcessing:
    """What a pipeline does to its combination before the scheduler's step.

    Attributes:
        name: the pipeline's own name for it.
        apply: the combination (B, ...) after it.
        active: whether the pipeline did it in this evaluation. It must not wait for the device: where only tensors can
            tell, it says True and `apply` finds out.
    """

    name: str
    apply: Callable[[torch.Tensor, Evaluation], torch.Tensor]
    active: Callable[[Evaluation], bool] = lambda evaluation: True


Weight = Callable[[Evaluation], float | torch.Tensor]
Pair = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True)
class Family:
    """How a kind of pipeline calls its denoiser and its scheduler.

    The attachment infers it in the first guided step where nobody gave it, and checks it there in any case. What no
    family has to say: the network's input is the sample scaled as the scheduler says; the pipeline's own dtype is the
    one it hands to the scheduler; channels that only the scheduler reads (a learned variance) stay the pipeline's.

    A pipeline that these facts do not describe overrides `split`, `inputs` or `finish`; see `kinds`.

    Attributes:
        pipelines: class names of the pipelines; subclasses belong too.
        denoiser: the pipeline's attribute that holds the network.
        enable: what a user sets so that the unconditional pass runs; completes "set ...".
        sample, timestep: names of the denoiser's arguments; None where one was not found, and then the network cannot
            be evaluated elsewhere.
        calls: 1 for one call with both halves in one batch, 2 for two calls of one half each.
        cond_first: whether the conditional half, or call, comes first.
        negated: whether the network predicts minus what the scheduler expects.
        listed: whether samples go in and come out as lists of tensors, one a sample.
        time: the denoiser's time argument from the scheduler's timestep (in the argument's dtype) and the pipeline;
            None where it is not known, and then the network is evaluated at the step's own time only.
        prediction_type: of the network, or None to take the scheduler's.
        weight: the pipeline's attribute that holds its guidance weight, or a function that finds it; None where it is
            only a local variable, and is recovered from what the pipeline combined.
        doubled: whether the scheduler's `step` receives the sample twice, as `cat([x, x])`.
        aside: names of denoiser arguments that mark a call as not belonging to classifier-free guidance.
        guided: whether a call holds both halves, where the batch sizes do not tell; asked once a run.
        post_processing: what the pipeline does to its combination, or None.
        second_denoiser: the attribute of a second network, which takes over at some noise level. Evaluated again, at
            whatever time, is the one that ran in the step.
        names: of all predictions of a step, in order, where it makes more than two; "cond" and "uncond" among them
            (see `Mixture` for more than two that are combined).
        inside: where the sample lies in the network's argument.
        outside: where the prediction lies in the network's output.
    """

    pipelines: tuple[str, ...]
    denoiser: str
    enable: str
    sample: str | None = "hidden_states"
    timestep: str | None = "timestep"
    calls: int = 1
    cond_first: bool = False
    negated: bool = False
    listed: bool = False
    time: Callable[[torch.Tensor, Pipeline], torch.Tensor] | None = lambda timestep, pipe: timestep
    prediction_type: str | None = None
    weight: str | Weight | None = None
    doubled: bool = False
    aside: tuple[str, ...] = ()
    guided: Callable[[Call], bool] | None = None
    post_processing: PostProcessing | None = None
    second_denoiser: str | None = None
    names: tuple[str, ...] = ()
    inside: Layout = PLAIN
    outside: Layout = PLAIN

    def __post_init__(self) -> None:
        if self.calls not in (1, 2) and type(self) is Family:
            raise ValueError(f"a family calls its denoiser once or twice a step, got calls={self.calls}")
        if self.names and not {"cond", "uncond"} <= set(self.names):
            raise ValueError(f'names must have "cond" and "uncond" among them, got {self.names}')
        if self.post_processing is not None and self.weight is None:
            raise ValueError("a family with post_processing needs weight, since it cannot be recovered after that")

    def stepped(self, observed: Observed) -> tuple[torch.Tensor, torch.Tensor]:
        """(output, sample) (B, ...): what the scheduler is given, each sample once, without a learned variance."""
        output, sample = observed.output, observed.sample
        if self.doubled and self.is_guided(observed):
            output, sample = output.chunk(2)[0], sample.chunk(2)[0]
        return output if output.shape[1] == sample.shape[1] else output[:, : sample.shape[1]], sample

    def is_guided(self, observed: Observed) -> bool:
        """Whether the pipeline ran the unconditional pass in this step."""
        guided = self.guided
        if guided is not None:
            return observed.once("guided", lambda: guided(observed.calls[0]))
        samples = observed.sample.shape[0] // (2 if self.doubled else 1)
        return sum(_count(call.output) for call in observed.calls) >= 2 * samples

    def predictions(self, outputs: list, like: torch.Tensor) -> list[torch.Tensor]:
        """All predictions in the outputs of the calls of one evaluation, in order: in the shape and dtype of `like`
        (B, ...) and in the scheduler's sign."""
        found = []
        for output in outputs:
            value = torch.stack(list(output)) if self.listed else output
            value = self.outside.select(value, like).to(like.dtype)
            found += (-value if self.negated else value).split(like.shape[0])
        return found

    def split(self, outputs: list, observed: Observed, sample: torch.Tensor) -> Pair:
        """(cond, uncond) from the outputs of the calls of one evaluation at `sample` (B, ...), as the scheduler's step
        would be given them; uncond is None without that pass.

        Raises:
            ValueError: the outputs are not of the shape that the scheduler is given.
        """
        found = self.predictions(outputs, self.stepped(observed)[0])
        if len(found) == 1:
            return found[0], None
        if self.names and len(found) == len(self.names):
            return found[self.names.index("cond")], found[self.names.index("uncond")]
        if len(found) != 2:
            raise ValueError(f"{len(found)} predictions, where a family of this kind combines two")
        return (found[0], found[1]) if self.cond_first else (found[1], found[0])

    def named(self, outputs: list, observed: Observed, sample: torch.Tensor) -> dict[str, torch.Tensor]:
        """All predictions by name, as callbacks see them: those of `split`, and the others that `names` has."""
        named = {}
        if self.names:
            found = self.predictions(outputs, self.stepped(observed)[0])
            named = dict(zip(self.names, found, strict=True)) if len(found) == len(self.names) else {}
        cond, uncond = self.split(outputs, observed, sample)
        return named | ({"cond": cond} if uncond is None else {"cond": cond, "uncond": uncond})

    def cond_position(self, count: int) -> int:
        """Position of the conditional prediction among the `count` that a step makes."""
        if count == len(self.names):
            return self.names.index("cond")
        return 0 if self.cond_first else count - 1

    def inputs(
        self,
        call: Call,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        observed: Observed,
        scaled: Callable[[torch.Tensor], torch.Tensor],
    ) -> dict:
        """The arguments of `call` for another sample (B, ...) and another of the scheduler's timesteps.

        `scaled` brings a sample to the scale in which the scheduler has networks see it, at that time. At the step's
        own timestep (the same object) the network is given the time that the pipeline gave it.

        Raises:
            ValueError: it is not known where the sample or the time goes.
        """
        if self.sample is None or self.timestep is None:
            what = "sample" if self.sample is None else "timestep"
            raise ValueError(
                f"a callback evaluates {self._network(observed.pipe)} at another sample, and the {what} was not found "
                f"among its arguments; pass attach(..., family=Family(...)) with {what}=NAME"
            )
        given, time = call.arguments[self.sample], call.arguments[self.timestep]
        given = torch.stack(list(given)) if self.listed else given
        placed = self.inside.place(given, scaled(sample))
        if timestep is not observed.timestep:
            time, before = self._time(time, timestep, observed.pipe), time
            if _of_tokens(before):  # clean tokens, at time 0, were pasted into the sample and stay
                time = torch.where(before == 0, before, time)
        if _of_tokens(time):
            current = self.inside.place(given, scaled(self.stepped(observed)[1]))
            placed = torch.where(given == current, placed, given)
        return call.arguments | {self.sample: list(placed) if self.listed else placed, self.timestep: time}

    def finish(self, prediction: torch.Tensor, observed: Observed) -> torch.Tensor:
        """What the scheduler is given for `prediction` (B, ...): in the pipeline's dtype, twice where it steps its
        samples twice, and with the channels that only the scheduler reads."""
        output, sample = observed.output, observed.sample
        prediction = prediction.to(output.dtype)  # float32 would raise, or turn the latents to float32
        if prediction.shape[0] != output.shape[0]:
            prediction = torch.cat([prediction, prediction])
        if output.shape[1] > sample.shape[1]:
            prediction = torch.cat([prediction, output[:, sample.shape[1] :]], 1)
        return prediction

    def _network(self, pipe: Pipeline) -> str:
        return f"{type(pipe).__name__}.{self.denoiser}"

    def _time(self, given: torch.Tensor | float, timestep: torch.Tensor, pipe: Pipeline) -> torch.Tensor:
        if self.time is None:
            raise ValueError(
                f"a callback evaluates {self._network(pipe)} at another time, and the time that it is given is not a "
                "known function of the scheduler's; pass attach(..., family=Family(...)) with time=FUNCTION"
            )
        if not isinstance(given, torch.Tensor):
            return self.time(timestep, pipe)
        # Off the grid a time may lie between integers.
        keep = given.is_floating_point() or not timestep.is_floating_point()
        time = self.time(timestep.to(given.device, given.dtype if keep else timestep.dtype), pipe).expand(given.shape)
        return time.contiguous() if given.is_contiguous() else time  # other strides have a network compiled again


def _count(output: Output) -> int:
    """Predictions in it. For tensors `len` takes five times as long."""
    return output.shape[0] if isinstance(output, torch.Tensor) else len(output)


def _of_tokens(time: object) -> bool:
    return isinstance(time, torch.Tensor) and time.ndim > 1
