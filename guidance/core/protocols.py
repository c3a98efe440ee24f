"""What the package asks of a pipeline and of its scheduler; diffusers' classes fit, and so do others like them.

Both keep more than is listed, by their class: parts, tables, settings. It is read by name, and `__getattr__` says so.
"""

from typing import Any, Protocol

import torch


class Scheduler(Protocol):
    """A scheduler as in diffusers."""

    config: Any  # a mapping whose keys are attributes too
    timesteps: torch.Tensor

    def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None: ...


class Pipeline(Protocol):
    """A pipeline as in diffusers: called with its arguments, it samples."""

    config: Any  # a mapping whose keys are attributes too

    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

    def __getattr__(self, name: str) -> Any: ...

    def __setattr__(self, name: str, value: Any) -> None: ...
