"""What makes a diffusers pipeline class take `guidance=`, and keep it when saved and loaded.

It lives in the package and not next to the pipelines, because diffusers copies a file given as `custom_pipeline=` into
its own cache and runs it there alone: only what is installed can be imported from it.
"""

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core.callback import Callback, Guide, as_list
from ..core.configuration import load_accompanying, save_guidance
from ..core.protocols import Pipeline
from ..core.trust import check_parts
from .attach import attach


if TYPE_CHECKING:
    from diffusers import DiffusionPipeline as _Base
    from typing_extensions import Self
else:
    _Base = object

Guidance = Guide | Sequence[Guide] | None
_HUB = ("cache_dir", "force_download", "local_files_only", "proxies", "revision", "subfolder", "token")


class GuidanceMixin(_Base):
    """First base of a pipeline class, before the diffusers one: `class My(GuidanceMixin, StableDiffusion3Pipeline)`.

    The call, the constructor, `from_pretrained` and `from_pipe` then also take `guidance`: a callback or a list of
    them, [] for the pipeline's own guidance, or None for what was set before. `save_pretrained` writes it to
    `guidance.json` next to `model_index.json`, and loading that folder, also by `DiffusionPipeline.from_pretrained`
    with `custom_pipeline=`, brings it back if its callbacks are plain numbers. Callbacks that name files, networks or
    libraries (a classifier, a decoder) need `trust_guidance=True`, in `from_pretrained`, `from_pipe` or the
    constructor; see `core.trust`.

    Attributes:
        guidance: list of callbacks for calls that give none, or None for the pipeline's own guidance.

    Raises:
        TypeError: when something in `guidance` is not a callback.
        ValueError: when saving, if a callback cannot be written as JSON; nothing is written then. When loading, if
            guidance.json needs trust, or model_index.json names code outside of diffusers and transformers.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if GuidanceMixin in cls.__bases__:  # a class derived from such a class has it already
            constructor = _accepting(cls.__init__, _construct, guidance=None, trust_guidance=False)
            cls.__init__ = constructor  # type: ignore[method-assign]
            cls.__call__ = _accepting(cls.__call__, _call, guidance=None)

    @property
    def guidance(self) -> list[Guide] | None:
        return self._guidance

    @guidance.setter
    def guidance(self, guidance: Guidance) -> None:
        self._guidance = None if guidance is None else as_list(guidance)

    def register_to_config(self, **kwargs: Any) -> None:
        super().register_to_config(**kwargs)
        # Whichever class's `from_pretrained` runs, it ends by telling the finished pipeline its folder in this way.
        folder = kwargs.get("_name_or_path")
        if folder is not None and self.guidance is None and (file := _file(folder)).is_file():
            self.guidance = load_accompanying(file, self._trust_guidance)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any) -> "Self":
        """As in diffusers, with `guidance` and `trust_guidance`; see `GuidanceMixin`."""
        if not kwargs.get("trust_remote_code"):
            known = {name: kwargs[name] for name in _HUB if name in kwargs}
            check_parts(cls.load_config(pretrained_model_name_or_path, **known))
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    @classmethod
    def from_pipe(
        cls,
        pipeline: Pipeline,
        *,
        dtype: torch.dtype | None = None,
        torch_dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> "Self":
        """A pipeline of this class that shares the components, and so the weights, of `pipeline`.

        Args:
            pipeline: any pipeline with the same components; its guidance, or that of its folder, is taken over.
            dtype, torch_dtype: to convert to. Unlike in diffusers, where the default turns the shared weights to
                float32, each component keeps its own.
            kwargs: `guidance`, `trust_guidance`, components and options to replace.

        Raises:
            ValueError: a component is missing, or an argument is not one of the constructor's.
        """
        accepted = {name: value for name, value in inspect.signature(cls.__init__).parameters.items() if name != "self"}
        given = {**pipeline.config, **pipeline.components, "guidance": getattr(pipeline, "guidance", None)}
        arguments = {name: value for name, value in given.items() if name in accepted} | kwargs
        if missing := [
            name for name, value in accepted.items() if value.default is value.empty and name not in arguments
        ]:
            raise ValueError(f"{cls.__name__} needs {', '.join(missing)}, which {type(pipeline).__name__} has not")
        if unknown := set(arguments) - set(accepted):
            raise ValueError(f"{cls.__name__} takes no {', '.join(sorted(unknown))}, only {', '.join(accepted)}")
        new = cls(**arguments)
        # As diffusers does: what this class has no use for is kept, marked private.
        rest = {name: value for name, value in pipeline.config.items() if name not in accepted}
        new.register_to_config(**{name if name.startswith("_") else f"_{name}": value for name, value in rest.items()})
        dtype = dtype or torch_dtype
        return new if dtype is None else new.to(dtype=dtype)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """As in diffusers, and `guidance.json` next to the rest. Without guidance an older such file is removed."""
        # First, so that a folder that is pushed to the Hub holds it, and an error leaves nothing half written.
        if self.guidance is not None:
            save_guidance(_file(save_directory), self.guidance)
        else:
            _file(save_directory).unlink(missing_ok=True)
        return super().save_pretrained(save_directory, *args, **kwargs)


def _file(folder: str | os.PathLike) -> Path:
    return Path(folder) / Callback.config_name


def _construct(
    original: Callable, self: GuidanceMixin, guidance: Guidance, trust_guidance: bool, *args: Any, **kwargs: Any
) -> None:
    self.guidance, self._trust_guidance = guidance, trust_guidance  # before, since the original registers itself
    original(self, *args, **kwargs)


def _call(original: Callable, self: GuidanceMixin, guidance: Guidance, *args: Any, **kwargs: Any) -> Any:
    guidance = self.guidance if guidance is None else guidance
    if not guidance:
        return original(self, *args, **kwargs)
    with attach(self, guidance):
        return original(self, *args, **kwargs)


def _accepting(original: Callable, replacement: Callable, **defaults: Any) -> Callable:
    """`original` with the keywords `defaults`, passed on to `replacement(original, self, *keywords, ...)`."""

    @functools.wraps(original)
    def accepting(self: GuidanceMixin, *args: Any, **kwargs: Any) -> Any:
        extra = [kwargs.pop(name, default) for name, default in defaults.items()]
        return replacement(original, self, *extra, *args, **kwargs)

    # diffusers reads signatures: to tell components from options, and to see what a call accepts.
    signature = inspect.signature(original)
    kind = inspect.Parameter.KEYWORD_ONLY
    extra = [inspect.Parameter(name, kind, default=default) for name, default in defaults.items()]
    parameters = list(signature.parameters.values())
    end = len(parameters) - (parameters[-1].kind is inspect.Parameter.VAR_KEYWORD)
    vars(accepting)["__signature__"] = signature.replace(parameters=[*parameters[:end], *extra, *parameters[end:]])
    return accepting
