"""The contract: a callback is middleware, `prediction = callback(step, proceed)`.

`proceed(step)` asks the rest of the chain, which ends in the pipeline's own combination. A list of callbacks is
applied in order: the first is nearest to the network, each later one wraps those before it. So in
`[RAAG(), DiffIER(), Trace()]` RAAG combines the two predictions, DiffIER iterates what RAAG gives, and Trace sees the
result.
"""

import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from diffusers import ConfigMixin

from .groups import ungrouped
from .needs import Upcoming
from .protocols import Pipeline
from .step import Step


Proceed = Callable[[Step], torch.Tensor]
Guide = Callable[[Step, Proceed], torch.Tensor]  # a callback, or any such function


class Callback(ConfigMixin):
    """Base of all callbacks: a window of steps, and a configuration that can be written as JSON.

    A subclass decorates `__init__` with `diffusers.configuration_utils.register_to_config`, takes `start` and `stop`
    last and passes them on, and implements `guide`. Any plain function of `(step, proceed)` is a callback too; the base
    adds the window, the configuration, and the passing over of steps without an unconditional pass.

    Args:
        start, stop: active from fraction `start` of the steps up to, not including, fraction `stop`, as in diffusers'
            guiders: `int(start * total) <= index < int(stop * total)`. Outside, `proceed(step)` passes unchanged. At
            another position of the sampler's grid (`Step.at`) it is that position that counts.

    Raises:
        ValueError: unless 0 <= start <= stop <= 1.
    """

    config_name = "guidance.json"
    #: Combiners set this: they are passed over in steps where the pipeline leaves out the unconditional pass.
    needs_unconditional = False
    #: Those that read the unconditional prediction through `proceed` alone set this: see `reads`.
    passes_on = False
    #: Those for whom `reads` turns False while a run goes on set this.
    decides_late = False
    #: Arguments that are one of a few words, which a file may give without being trusted; see `trust`.
    words: ClassVar[dict[str, tuple[str, ...]]] = {}
    kinds: ClassVar[dict[str, type["Callback"]]] = {}
    start, stop = 0.0, 1.0  # of a subclass that does not call this constructor

    def __init__(self, start: float = 0.0, stop: float = 1.0):
        if not 0 <= start <= stop <= 1:
            raise ValueError(f"start and stop are fractions with 0 <= start <= stop <= 1, got {start} and {stop}")
        self.start, self.stop = start, stop

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Callback.kinds[cls.__name__.lower()] = cls

    def __call__(self, step: Step, proceed: Proceed) -> torch.Tensor:
        """The prediction (B, ...) to use in this step, in the space of `step.prediction_type`."""
        if not int(self.start * step.total) <= step.index + step.ahead < int(self.stop * step.total):
            return proceed(step)
        if self.needs_unconditional and step.truncated:
            return proceed(step)
        return self.guide(step, proceed)

    def reads(self, upcoming: Upcoming) -> bool | None:
        """Whether `guide` reads the unconditional prediction in that step: True if so or unknown; None if it only
        passes on what `proceed` gives; False if its result depends on neither. See `needs_unconditional`."""
        return None if self.passes_on else True

    def unconditional(self, upcoming: Upcoming) -> bool | None:
        """`reads` inside the window, None outside."""
        inside = int(self.start * upcoming.total) <= upcoming.index < int(self.stop * upcoming.total)
        return self.reads(upcoming) if inside else None

    def install(self, pipe: Pipeline, is_ours: Callable[[], bool]) -> Callable[[], None] | None:
        """Called when attached, by a callback that acts within the pipeline's networks too; it returns what takes that
        off again. `is_ours` says whether the call of a network that is being made belongs to the pipeline's run."""

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        """What the callback does inside its window."""
        raise NotImplementedError

    def __repr__(self) -> str:
        known = settings(self) if hasattr(self, "_internal_dict") else {}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in known.items())})"


def settings(callback: Callback) -> dict:
    """The arguments that `callback` was made with, by name; groups by their fields.

    Raises:
        ValueError: its constructor does not register them.
    """
    if not hasattr(callback, "_internal_dict"):
        raise ValueError(
            f"the arguments of {type(callback).__name__} are not known: decorate its __init__ with "
            "diffusers.configuration_utils.register_to_config"
        )
    return ungrouped({name: value for name, value in callback.config.items() if not name.startswith("_")})


def chain(callbacks: Iterable[Guide]) -> Proceed:
    """One function of a step: `callbacks` applied in order around the pipeline's own combination.

    Raises:
        ValueError: when called, if a callback returns no tensor of the prediction's shape; the message names it.
    """
    proceed: Proceed = Step.pipeline_prediction
    for callback in callbacks:
        proceed = _link(callback, proceed)
    return proceed


def _link(callback: Guide, inner: Proceed) -> Proceed:
    def proceed(step: Step) -> torch.Tensor:
        prediction = callback(step, inner)
        if not isinstance(prediction, torch.Tensor) or prediction.shape != step.cond.shape:
            got = tuple(prediction.shape) if isinstance(prediction, torch.Tensor) else type(prediction).__name__
            raise ValueError(
                f"{callback!r} returned {got} at step {step.index}; a callback returns the prediction, "
                f"a tensor of shape {tuple(step.cond.shape)}"
            )
        return prediction

    return proceed


def as_list(guidance: object) -> list[Guide]:
    """`guidance` as a list of callbacks.

    Raises:
        TypeError: something in it is not callable, is a class where an instance is meant, or a guider of diffusers.
    """
    callbacks: list[Any] = (
        list(guidance) if isinstance(guidance, Iterable) and not isinstance(guidance, str) else [guidance]
    )
    for callback in callbacks:
        if inspect.isclass(callback):
            raise TypeError(f"{callback.__name__} is a class; pass an instance, {callback.__name__}()")
        if _is_guider(callback):  # callable, but with other arguments
            raise TypeError(
                f"{type(callback).__name__} is a guider for modular pipelines; elsewhere pass GuiderCallback(guider), "
                "or the callbacks themselves"
            )
        if not callable(callback):
            raise TypeError(f"a guidance callback is a function of (step, proceed), got {callback!r}")
    return callbacks


def _is_guider(value: object) -> bool:
    """Whether it is a guider of diffusers. Where their module was not imported there are none, and it is slow."""
    guiders = sys.modules.get("diffusers.guiders")
    return guiders is not None and isinstance(value, guiders.BaseGuidance)
