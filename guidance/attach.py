"""Attaching callbacks to a pipeline that knows nothing of them.

A forward hook on the denoiser records what it was called with and what it returned; the scheduler instance's `step` is
replaced by one that rebuilds the two predictions, asks the callbacks, and calls the original with their answer. The
pipeline's own combination is ignored unless a callback asks for it. Everything is undone on exit.
"""

import functools
import inspect
from collections.abc import Callable

import torch

from .callback import as_list, chain
from .families import Call, Family, find_family
from .noise import Level, grid_index, input_scale, level_at_index, level_at_timestep
from .step import Step


def attach(pipe, guidance, *, check_finite: bool = False) -> "Attachment":
    """Attach `guidance` to `pipe` until the `with` block ends, or until `detach()` is called.

    Args:
        pipe: a diffusers pipeline of a known family (see `register_family`); its code is not touched.
        guidance: a callback, or several, applied in order: the first is nearest to the network.
        check_finite: stop with an error at the first prediction that is not finite. It waits for the device at every
            step, so it is for finding a fault, not for production.

    Returns:
        The attachment, to be used as a context manager. It serves any number of calls of the pipeline.

    Raises:
        ValueError: the pipeline's family is unknown.
        TypeError: `guidance` is not callable or a list of callables.
        RuntimeError: something is attached to the pipeline (or to another one that shares its scheduler) already.
    """
    return Attachment(pipe, as_list(guidance), check_finite)


class Attachment:
    """A pipeline with callbacks attached; made by `attach`. Also the `Denoiser` of the steps that it makes."""

    def __init__(self, pipe, callbacks: list, check_finite: bool = False):
        self.pipe, self.callbacks, self.check_finite = pipe, callbacks, check_finite
        self.family: Family = find_family(pipe)
        self.scheduler = pipe.scheduler
        if isinstance(self.scheduler.__dict__.get("step"), _Replacement):
            raise RuntimeError(
                f"guidance is attached to this {type(pipe).__name__} already; leave that `with` block (or call "
                "detach()) first, or pass all callbacks in one list"
            )
        self._proceed = chain(callbacks)
        self._step_signature = inspect.signature(self.scheduler.step)
        self._reset()
        module = getattr(pipe, self.family.denoiser)
        self._forward_signature = inspect.signature(getattr(module, "_orig_mod", module).forward)
        self._undo = [
            module.register_forward_hook(self._record, with_kwargs=True).remove,
            _Replacement(self.scheduler, "step", self._step).undo,
            _Replacement(self.scheduler, "set_timesteps", self._set_timesteps).undo,
        ]

    def __enter__(self) -> "Attachment":
        return self

    def __exit__(self, *_) -> None:
        self.detach()

    def detach(self) -> None:
        """Restore the pipeline exactly. Detaching twice does nothing."""
        while self._undo:
            self._undo.pop()()
        self._reset()

    # What a `Step` asks of its denoiser.

    @property
    def missing(self) -> str:
        return (
            f"this callback needs the unconditional prediction, and {type(self.pipe).__name__} ran without that pass; "
            f"set {self.family.enable}"
        )

    def level(self, timestep: torch.Tensor, index: int | None) -> Level:
        return level_at_timestep(self.scheduler, timestep) if index is None else level_at_index(self.scheduler, index)

    def grid(self, index: int) -> torch.Tensor:
        return self.scheduler.timesteps[index]

    def predict(
        self, sample: torch.Tensor, timestep: torch.Tensor, level: Callable[[], Level]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        call = self._call
        if call is None:
            raise RuntimeError("the network can be evaluated only while the pipeline is in the step that was given")
        scale = input_scale(self.scheduler, level)
        sample = (sample if scale is None else sample * scale).to(call.arguments[self.family.sample].dtype)
        time = call.arguments[self.family.timestep]
        arguments = call.arguments | {
            self.family.sample: torch.cat([sample, sample]) if self._guided else sample,
            self.family.timestep: timestep.to(time.device, time.dtype).expand(time.shape),
        }
        self._replaying = True
        try:
            output = call.module(**arguments)[0]
        finally:
            self._replaying = False
        self.evaluations += 1
        return self._split(output, sample.shape[1])

    # What the pipeline calls.

    def _reset(self) -> None:
        self._index, self._call, self._replaying = 0, None, False
        self._guided: bool | None = None  # of the current step
        self._ever_guided = False  # in this run
        self.evaluations = 0  # of the denoiser in this run, on the callbacks' own account

    def _set_timesteps(self, original: Callable, *args, **kwargs):
        self._reset()  # every pipeline does this first, once a call
        return original(*args, **kwargs)

    def _record(self, module: torch.nn.Module, args: tuple, kwargs: dict, output) -> None:
        if self._replaying:
            return
        if self.pipe.scheduler is not self.scheduler:
            raise RuntimeError("the pipeline's scheduler was replaced while guidance was attached; attach again")
        arguments = self._forward_signature.bind(*args, **kwargs).arguments
        arguments |= arguments.pop("kwargs", {})
        if not any(arguments.get(name) is not None for name in self.family.aside):
            self._call = Call(module, arguments, output[0])

    def _step(self, original: Callable, *args, **kwargs):
        bound = self._step_signature.bind(*args, **kwargs)
        given = bound.arguments
        output = given["model_output"]
        prediction = self._guide(output, given["timestep"], given["sample"])
        # The pipeline's own dtype: a float32 result would raise, or turn the latents to float32.
        prediction = prediction.to(output.dtype)
        given["model_output"] = torch.cat([prediction, prediction]) if self._doubled else prediction
        result = original(*bound.args, **bound.kwargs)
        self._index, self._call = self._index + 1, None
        return result

    def _guide(self, combined: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        call = self._call
        if call is None:
            raise RuntimeError(
                f"the scheduler's step ran, but {type(self.pipe).__name__}.{self.family.denoiser} was not called "
                "before it; was it replaced while guidance was attached?"
            )
        if self.family.guided is None:
            self._guided = len(call.arguments[self.family.sample]) == 2 * len(sample)
        elif self._guided is None:
            self._guided = self.family.guided(call)
        self._ever_guided |= self._guided
        if self._doubled:
            sample, combined = sample.chunk(2)[0], combined.chunk(2)[0]
        steps = len(self.scheduler.timesteps)
        total = getattr(self.pipe, "_num_timesteps", None) or steps
        step = Step(
            sample=sample,
            timestep=timestep,
            index=self._index,
            total=total,
            prediction_type=self._prediction_type(),
            denoiser=self,
            predicted=self._split(call.output, combined.shape[1]),
            combined=combined,
            weight=getattr(self.pipe, self.family.weight) if self.family.weight and self._guided else None,
            # Image-to-image pipelines run the end of the grid only.
            grid_index=grid_index(self.scheduler, timestep, default=steps - total + self._index),
            truncated=self._ever_guided and not self._guided,
        )
        prediction = self._proceed(step)
        if self.check_finite and not bool(torch.isfinite(prediction).all()):
            source = "the network's own" if not bool(torch.isfinite(call.output).all()) else "the callbacks'"
            raise FloatingPointError(f"{source} prediction is not finite at step {step.index} of {step.total}")
        return prediction

    @property
    def _doubled(self) -> bool:
        return self.family.doubled and bool(self._guided)

    def _split(self, output: torch.Tensor, channels: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        output = output[:, :channels]  # a network that learns its variance returns that in further channels
        if not self._guided:
            return output, None
        first, second = output.chunk(2)
        return (first, second) if self.family.cond_first else (second, first)

    def _prediction_type(self) -> str:
        return self.family.prediction_type or self.scheduler.config.get("prediction_type") or "flow_prediction"


class _Replacement:
    """Stands in for one bound method of one object, and passes the original to its stand-in.

    It shows the original's signature, because pipelines look there for `eta` and `generator`; and a deep copy of the
    owner gets the plain method, since a copied stand-in would go on driving the original.
    """

    def __init__(self, owner, name: str, stand_in: Callable):
        original = getattr(owner, name)
        functools.update_wrapper(self, original)
        self._owner, self._name, self._original, self._stand_in = owner, name, original, stand_in
        self._before = owner.__dict__.get(name)
        setattr(owner, name, self)

    def __call__(self, *args, **kwargs):
        return self._stand_in(self._original, *args, **kwargs)

    def __deepcopy__(self, memo: dict):
        copy = memo.get(id(self._owner), self._owner)
        return getattr(type(copy), self._name).__get__(copy)

    def undo(self) -> None:
        if self._before is None:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._before)
