"""The denoiser of a pipeline, watched: what it was called with in the current step, and the way to call it again."""

import functools
import inspect
from collections.abc import Callable
from contextlib import contextmanager

import torch

from .caches import fresh_cache
from .families import Call, Family
from .replacement import Replacement


class Recorder:
    """Hooks on the denoiser, or denoisers, of `pipe`; `detach` removes them.

    Attributes:
        calls: those of the current step that belong to classifier-free guidance, in order.
        aside: output of the last other call of the step (skip-layer guidance), or None.
        latest: what `again` last called: the step's calls, with all that the network then returned.
        spared: evaluations of this run that `answer` saved the pipeline.
        pause: context in which calls are not the pipeline's, and so not recorded.
    """

    def __init__(self, pipe, family: Family):
        self.pipe, self.family, self.scheduler = pipe, family, pipe.scheduler
        self._recording = True
        self._names: dict[torch.nn.Module, tuple[str, ...]] = {}
        self._answers: list[tuple[Call, object]] = []
        self._undo_answers: list[Callable[[], None]] = []
        self.reset()
        names = (family.denoiser, family.second_denoiser)
        modules = [getattr(pipe, name, None) for name in names if name is not None]
        if not any(isinstance(module, torch.nn.Module) for module in modules):
            raise ValueError(
                f"{type(pipe).__name__} has no network {family.denoiser!r}, which its family names as the denoiser"
            )
        self._undo = [self._watch(module) for module in modules if module is not None]

    def detach(self) -> None:
        while self._undo:
            self._undo.pop()()
        self.reset()

    def reset(self) -> None:
        """Forget everything of the run."""
        self.clear()
        self.drop_answers()
        self.spared = 0

    def clear(self) -> None:
        """Forget the calls of the step."""
        self.calls: list[Call] = []
        self.aside: torch.Tensor | None = None
        self.latest: list[tuple[Call, object]] = []

    @contextmanager
    def pause(self):
        before, self._recording = self._recording, False
        try:
            yield
        finally:
            self._recording = before

    def halves(self, outputs: list, like: torch.Tensor, guided: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(cond, uncond) from the outputs of the calls of one evaluation: in the shape and dtype of `like`, (B, ...)
        as the scheduler's step gets it, and in its sign."""
        outputs = [self._plain(output, like) for output in outputs]
        halves = outputs[0].chunk(2) if guided and self.family.calls == 1 else outputs
        if any(half.shape != like.shape for half in halves):
            raise RuntimeError(
                f"{type(self.pipe).__name__} hands its scheduler a prediction of shape {tuple(like.shape)}, and the "
                f"network's are {', '.join(str(tuple(half.shape)) for half in halves)}: this use of the pipeline is "
                "not supported, or its family does not describe it (see guidance.Family: calls)"
            )
        if not guided:
            return halves[0], None
        first, second = halves
        return (first, second) if self.family.cond_first else (second, first)

    def variance(self, outputs: list, like: torch.Tensor, guided: bool) -> torch.Tensor | None:
        """(B, C, ...) channels that follow the conditional prediction where they are as many as those of `like`
        (B, C, H, W, ...): a learned variance. None without them."""
        first = outputs[0]
        if self.family.listed or like.ndim < 4 or first.shape[1:] != (2 * like.shape[1], *like.shape[2:]):
            return None
        halves = list(first.chunk(2)) if guided and self.family.calls == 1 else outputs
        cond = halves[0] if not guided or self.family.cond_first else halves[1]
        return cond[:, like.shape[1] :]

    def conditioning(self, name: str, guided: bool) -> torch.Tensor:
        """The network's argument `name` in the current step: of its conditional half, or call."""
        two = guided and self.family.calls == 2
        arguments = self.calls[1 if two and not self.family.cond_first else 0].arguments
        value = arguments.get(name)
        if not isinstance(value, torch.Tensor):
            has = ", ".join(sorted(key for key, value in arguments.items() if isinstance(value, torch.Tensor)))
            raise ValueError(
                f"the network of {type(self.pipe).__name__} is given no tensor {name!r} in this step; it is given {has}"
            )
        if guided and not two:
            first, second = value.chunk(2)
            return first if self.family.cond_first else second
        return value

    def again(self, sample: torch.Tensor, timestep: torch.Tensor, current: torch.Tensor) -> list:
        """Outputs of the calls of the step, made again at another sample (B, ...), scaled for the network, and at
        another scheduler's timestep; everything else as the pipeline gave it. `current` is the step's own sample."""
        outputs, self.latest = [], []
        with self.pause():
            for call in self.calls:
                self.latest.append((call, self._call_again(call, sample, timestep, current)))
                outputs.append(_first(self.latest[-1][1], call.module))
        return outputs

    def answer(self, outputs: list[tuple[Call, object]]) -> bool:
        """Let the pipeline's next calls return `outputs`, of `latest`, instead of running the network.

        False, and nothing done, with a compiled network. A next call to another network, or of another batch, is run,
        and ends it.
        """
        modules = {call.module for call, _ in outputs}
        if any(_is_compiled(module) for module in modules):
            return False
        self.drop_answers()
        self._answers = list(outputs)
        self._undo_answers = [
            Replacement(module, "forward", functools.partial(self._forward, module)).undo for module in modules
        ]
        return True

    def _forward(self, module: torch.nn.Module, original: Callable, *args, **kwargs):
        arguments = by_name(self._names[module], args, kwargs)
        if not self._recording or self._is_aside(arguments):
            return original(*args, **kwargs)
        call, output = self._answers.pop(0)
        name = self.family.sample
        fits = call.module is module and _size(arguments[name]) == _size(call.arguments[name])
        self.spared += fits and not self._answers
        if not (fits and self._answers):
            self.drop_answers()
        return output if fits else original(*args, **kwargs)

    def drop_answers(self) -> None:
        """Let the pipeline's next calls run the network."""
        self._answers.clear()
        while self._undo_answers:
            self._undo_answers.pop()()

    def _is_aside(self, arguments: dict) -> bool:
        return any(arguments.get(argument) is not None for argument in self.family.aside)

    def _watch(self, module: torch.nn.Module) -> Callable[[], None]:
        self._names[module] = argument_names(getattr(module, "_orig_mod", module).forward)

        def record(module, args, kwargs, output):
            if self._recording:
                arguments = by_name(self._names[module], args, kwargs)
                self._record(Call(module, arguments, _first(output, module)))

        if getattr(module, "_compiled_call_impl", None) is None:
            return module.register_forward_hook(record, with_kwargs=True).remove

        def call(original, *args, **kwargs):
            output = original(*args, **kwargs)
            record(module, args, kwargs, output)
            return output

        # `module.compile()` compiles hooks along with the network: a hook would have it compiled anew.
        return Replacement(module, "_compiled_call_impl", call).undo

    def _record(self, call: Call) -> None:
        name = f"{type(self.pipe).__name__}.{self.family.denoiser}"
        if self.pipe.scheduler is not self.scheduler:
            raise RuntimeError("the pipeline's scheduler was replaced while guidance was attached; attach again")
        if self._is_aside(call.arguments):
            self.aside = call.output
            return
        if len(self.calls) == self.family.calls:
            raise RuntimeError(
                f"{name} was called more than {self.family.calls} time(s) without a step of the scheduler that "
                "guidance is attached to. Either the pipeline makes a further pass, which its family must describe "
                "(see guidance.Family: calls, aside), or it steps another scheduler, such as a copy of its own"
            )
        for argument in (self.family.sample, self.family.timestep):
            if argument not in call.arguments:
                raise ValueError(
                    f"{name} was called without {argument!r}, which its family names as an argument; it was called "
                    f"with {', '.join(call.arguments)}"
                )
        self.calls.append(call)

    def _plain(self, output: torch.Tensor | list[torch.Tensor], like: torch.Tensor) -> torch.Tensor:
        if self.family.listed:
            output = torch.stack(list(output)).squeeze(2)
        output = output[:, : like.shape[1]]  # a learned variance, or the tokens of a reference image, come after
        output = output.to(like.dtype)
        return -output if self.family.negated else output

    def _call_again(self, call: Call, sample: torch.Tensor, timestep: torch.Tensor, current: torch.Tensor):
        family = self.family
        given, time = call.arguments[family.sample], call.arguments[family.timestep]
        # Off the grid a time may lie between integers.
        keep = time.is_floating_point() or not timestep.is_floating_point()
        timestep = family.time(timestep.to(time.device, time.dtype if keep else timestep.dtype), self.pipe)
        timestep, sample = timestep.expand(time.shape), _placed(sample, given)
        if time.is_contiguous():
            timestep = timestep.contiguous()  # other strides would have a compiled network compiled anew
        if time.ndim == 2:  # a time for each token: clean tokens, at time 0, were pasted into the sample and stay
            timestep = torch.where(time == 0, time, timestep)
            sample = torch.where(given == _placed(current, given), sample, given)
        with fresh_cache(call.module):
            return call.module(**call.arguments | {family.sample: sample, family.timestep: timestep})


def argument_names(function: Callable) -> tuple[str, ...]:
    """Names of the arguments of `function`, in order."""
    return tuple(inspect.signature(function).parameters)


def by_name(names: tuple[str, ...], args: tuple, kwargs: dict) -> dict:
    """The arguments of a call by name: what `inspect.Signature.bind` does in many times the time."""
    return dict(zip(names, args, strict=False)) | kwargs


def _placed(sample: torch.Tensor, given: torch.Tensor | list[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
    """`sample` (B, ...) in the form of `given`: as often, in its dtype, with the channels or tokens that follow."""
    if isinstance(given, list):
        return list(sample.to(given[0].dtype).unsqueeze(2)) * (len(given) // len(sample))
    sample = torch.cat([sample.to(given.dtype)] * (len(given) // len(sample)))
    for dim in range(1, sample.ndim):
        size = sample.shape[dim]
        if given.shape[dim] > size:
            sample = torch.cat([sample, given.narrow(dim, size, given.shape[dim] - size)], dim)
    return sample


def _first(output, module: torch.nn.Module) -> torch.Tensor | list[torch.Tensor]:
    """The prediction in what `module` returned, kept from being written over by the next replay of a CUDA graph."""
    prediction = output[0]
    return prediction.clone() if _is_compiled(module) and isinstance(prediction, torch.Tensor) else prediction


def _is_compiled(module: torch.nn.Module) -> bool:
    return hasattr(module, "_orig_mod") or getattr(module, "_compiled_call_impl", None) is not None


def _size(sample: torch.Tensor | list[torch.Tensor]) -> list[torch.Size]:
    return [part.shape for part in sample]
