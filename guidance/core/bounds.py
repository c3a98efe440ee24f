"""How a scheduler bounds the denoised estimate: `clip_sample` and dynamic `thresholding`."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.configuration_utils import FrozenDict

from .protocols import Scheduler


_CLIPPING = (
    *("DDPMScheduler", "DDPMParallelScheduler", "DDIMScheduler", "DDIMParallelScheduler", "LCMScheduler"),
    *("HeunDiscreteScheduler", "UnCLIPScheduler"),
)
_KEEPS_NOISE = ("DDIMScheduler", "DDIMParallelScheduler", "CogVideoXDDIMScheduler")


def is_any(scheduler: Scheduler, names: tuple[str, ...]) -> bool:
    """Whether the scheduler is of a class, or a subclass of one, that `names` holds."""
    return any(cls.__name__ in names for cls in type(scheduler).__mro__)


def keeps_noise(scheduler: Scheduler) -> bool:
    """Whether the scheduler bounds the estimate alone and keeps the noise of the unbounded one, as DDIM does.

    There no prediction stands for a bounded estimate. The others derive everything from the bounded estimate.
    """
    return is_any(scheduler, _KEEPS_NOISE)


def bounded(scheduler: Scheduler, x0: torch.Tensor) -> torch.Tensor:
    """x0 (B, ...) as the scheduler bounds it; the same tensor where the scheduler does not."""
    config = scheduler.config
    if config.get("thresholding", False):
        return scheduler._threshold_sample(x0)
    if config.get("clip_sample", False) and is_any(scheduler, _CLIPPING):  # others have the setting, and ignore it
        return x0.clamp(-config.clip_sample_range, config.clip_sample_range)
    return x0


@contextmanager
def unbounded(scheduler: Scheduler) -> Iterator[None]:
    """The scheduler leaves estimates as they are within the block; its settings are restored at the end."""
    settings = scheduler._internal_dict
    off = {name: False for name in ("clip_sample", "thresholding") if settings.get(name)}
    scheduler._internal_dict = FrozenDict({**settings, **off})
    try:
        yield
    finally:
        scheduler._internal_dict = settings
