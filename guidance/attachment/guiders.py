"""Both ways between our callbacks and the guiders of Modular Diffusers.

`GuiderCallback` runs a guider of diffusers in a standard pipeline, `CallbackGuider` our callbacks in a modular one.
"""

import copy
import dataclasses
import inspect
import json
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import diffusers.guiders
import torch
from diffusers.configuration_utils import register_to_config
from diffusers.guiders import BaseGuidance, MagnitudeAwareGuidance
from diffusers.guiders.guider_utils import GuiderOutput
from diffusers.utils.torch_utils import unwrap_module

from ..core.callback import Callback, Guide, Proceed, as_list, chain
from ..core.configuration import from_config, to_config
from ..core.step import Pass, Step
from ..core.trust import require_plain


if TYPE_CHECKING:
    from diffusers.modular_pipelines.modular_pipeline import BlockState


class GuiderCallback(Callback):
    """A guider of diffusers as a callback, in place of the pipeline's own guidance.

    The guider keeps its own start, stop and state. Predictions that the pipeline made are used; where a guider wants
    one of a changed network (skipped layers, perturbed attention), its `prepare_models` changes the network, which is
    evaluated once more, and its `cleanup_models` restores it.

    Args:
        guider: an instance, or its configuration as `to_json_string` gives it (what a saved callback holds).

    Raises:
        TypeError: not a guider.
        ValueError: a configuration that names no guider of the installed diffusers; or, when called, a guider that
            wants a pass that only its own pipeline can make (LTX2Guidance beyond classifier-free guidance).
    """

    needs_unconditional = True

    @register_to_config
    def __init__(self, guider: BaseGuidance | dict):
        super().__init__()
        self.guider = guider if isinstance(guider, BaseGuidance) else _guider(guider)
        if getattr(diffusers.guiders, type(self.guider).__name__, None) is type(self.guider):
            self.register_to_config(guider=_configuration(self.guider))

    def guide(self, step: Step, proceed: Proceed) -> torch.Tensor:
        if not step.elsewhere:
            return self._guided(step)
        # What a guider keeps from step to step (momentum) takes no part of a trial.
        kept, self.guider = self.guider, copy.deepcopy(self.guider)
        try:
            return self._guided(step)
        finally:
            self.guider = kept

    def _guided(self, step: Step) -> torch.Tensor:
        position = step.index + step.ahead
        self.guider.set_state(step=position, num_inference_steps=step.total, timestep=step.timestep)
        # A guider takes one entry of each tuple for each pass that it wants: here the name of the prediction.
        passes = self.guider.prepare_inputs({"prediction": ("cond", "uncond", "stg", "modality")})
        for number, one in enumerate(passes, start=1):
            one.noise_pred = self._predict(step, one.prediction, number)
            # Its norms raise on more than three dimensions (diffusers 0.42.1); they are over all but the first.
            if isinstance(self.guider, MagnitudeAwareGuidance):
                one.noise_pred = one.noise_pred.flatten(1)
        return self.guider(passes).pred.reshape(step.cond.shape)

    def _predict(self, step: Step, prediction: str, number: int) -> torch.Tensor:
        if prediction not in ("cond", "uncond"):
            raise ValueError(
                f"{type(self.guider).__name__} wants a {prediction!r} pass, which only its own pipeline can make; "
                "set its scale so that the pass is not used"
            )
        if type(self.guider).prepare_models is BaseGuidance.prepare_models:  # which changes nothing
            return getattr(step, prediction)
        network = unwrap_module(step.denoiser.module)  # of `torch.compile`
        before = _hooks(network)
        try:
            self._prepare(network, number)
            changed = _hooks(network) != before
            return getattr(dataclasses.replace(step, predicted=None) if changed else step, prediction)
        finally:
            self.guider.cleanup_models(network)

    def _prepare(self, network: torch.nn.Module, number: int) -> None:
        self.guider.prepare_models(network)
        if self.guider._count_prepared < number:
            # SmoothedEnergyGuidance (diffusers 0.42.1) forgets to count its passes, and so would never act.
            self.guider._count_prepared = number
            self.guider.prepare_models(network)


class CallbackGuider(BaseGuidance):
    """Callbacks as a guider for Modular Diffusers: `pipe.update_components(guider=CallbackGuider(RAAG()))`.

    For callbacks that need no more than the two predictions, such as RAAG and CFG: a guider is told neither the sample
    nor the noise level, and cannot evaluate the network. Unlike diffusers' own, this guider stays in a modular pipeline
    that is saved and loaded: it is written by `save_pretrained`, and `load_components` loads it with the rest.

    Args:
        guidance: a callback, a list of them, or their configuration (`to_config`).
        guidance_scale: weight of the classifier-free guidance that callbacks get from `proceed`.
        start, stop, enabled: as in all guiders: outside of them there is no unconditional pass, and the conditional
            prediction is used.

    Raises:
        TypeError, ValueError: see `as_list` and `from_config`; ValueError when saved with a callback that is no JSON.
        RuntimeError: when called, if a callback asks for what a guider is not told.
    """

    _input_predictions = ["pred_cond", "pred_uncond"]  # noqa: RUF012 (diffusers demands a list)

    @register_to_config
    def __init__(
        self,
        guidance: Guide | Iterable[Guide] | list[dict],
        guidance_scale: float = 7.5,
        start: float = 0.0,
        stop: float = 1.0,
        enabled: bool = True,
    ):
        super().__init__(start, stop, enabled)
        given = guidance if isinstance(guidance, list | tuple) else []
        config = [one for one in given if isinstance(one, dict)]
        if config and len(config) == len(given):  # perhaps from a file
            require_plain(config, "the configuration of a guider", "pass the callback itself")
            self.callbacks: Sequence[Guide] = from_config(config)
        else:
            self.callbacks = as_list(guidance)
        self.guidance_scale = guidance_scale
        self._proceed = chain(self.callbacks)
        self._run = Pass()
        try:
            described: Sequence = to_config(self.callbacks)
        except ValueError:  # one that cannot be saved can be used
            described = self.callbacks
        # Without the second, diffusers' `new` and `from_config` would forget what was passed by position.
        self.register_to_config(guidance=described, _use_default_values=[])
        # A modular pipeline leaves out of what it saves any guider that was not loaded from somewhere.
        self._diffusers_load_id = "null|null|null|null"

    def prepare_inputs(self, data: dict) -> list:
        return [self._prepare_batch(data, *one) for one in self._passes()]

    def prepare_inputs_from_block_state(self, data: "BlockState", input_fields: dict) -> list:
        return [self._prepare_batch_from_block_state(input_fields, data, *one) for one in self._passes()]

    def forward(self, pred_cond: torch.Tensor, pred_uncond: torch.Tensor | None = None) -> GuiderOutput:
        pred = pred_cond
        if pred_uncond is not None:
            unknown = _Unknown()
            if not self._step:
                self._run = Pass()
            pred = self._proceed(
                Step(
                    sample=unknown,
                    timestep=self._timestep,
                    index=self._step,
                    total=self._num_inference_steps,
                    prediction_type="unknown",
                    denoiser=unknown,
                    predicted=(pred_cond, pred_uncond),
                    weight=self.guidance_scale,
                    run=self._run,
                )
            )
        return GuiderOutput(pred=pred, pred_cond=pred_cond, pred_uncond=pred_uncond)

    @property
    def is_conditional(self) -> bool:
        return self._count_prepared == 1

    @property
    def num_conditions(self) -> int:
        total = self._num_inference_steps
        inside = total is None or int(self._start * total) <= self._step < int(self._stop * total)
        return 2 if self._enabled and inside else 1

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> None:
        to_config(self.callbacks)  # says what is wrong before anything is written
        super().save_pretrained(save_directory, push_to_hub, **kwargs)

    def _passes(self) -> list[tuple[int, str]]:
        return list(enumerate(self._input_predictions))[: self.num_conditions]


class _Unknown(torch.Tensor):
    """Stands for what a guider is not told; any use of it is an error that says so."""

    _MESSAGE = (
        "Modular Diffusers tells a guider neither the sample nor the noise level, and this callback asked for one of "
        "them, or for the network; attach it to the standard pipeline instead"
    )

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(self._MESSAGE)

    def __repr__(self) -> str:  # type: ignore[override]  # of Tensor mypy sees an argument without a name
        return "unknown"

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(cls._MESSAGE)


def _configuration(guider: BaseGuidance) -> dict:
    """The arguments of `guider` as JSON, and its class name."""
    config = json.loads(guider.to_json_string())
    config.pop("_diffusers_version")
    return config


def _guider(config: dict) -> BaseGuidance:
    known = {name: kind for name, kind in vars(diffusers.guiders).items() if _is_guider(kind)}
    if not isinstance(config, dict):
        raise TypeError(f"a guider of diffusers is wanted, such as diffusers.guiders.{min(known)}(), got {config!r}")
    name = config.get("_class_name")
    if not isinstance(name, str) or name not in known:
        raise ValueError(f"diffusers has no guider {name!r}; it has {', '.join(sorted(known))}")
    arguments = {key: value for key, value in config.items() if not key.startswith("_")}
    takes = inspect.signature(known[name].__init__).parameters
    if unknown := arguments.keys() - takes.keys():
        raise ValueError(f"{name} has no argument {', '.join(sorted(unknown))}; it takes {', '.join([*takes][1:])}")
    return known[name](**arguments)


def _is_guider(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseGuidance) and kind is not BaseGuidance


def _hooks(network: torch.nn.Module) -> int:
    """Number of hooks of diffusers in the network, by which guiders change it."""
    registries = (getattr(part, "_diffusers_hook", None) for part in network.modules())
    return sum(len(registry.hooks) for registry in registries if registry is not None)
