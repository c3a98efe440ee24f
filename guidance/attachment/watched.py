"""What of a pipeline is watched: its scheduler, and the networks that may be its denoisers."""

from typing import Any

import torch

from ..core.protocols import Pipeline, Scheduler
from .families import Family


def scheduler_of(pipe: Pipeline) -> Scheduler:
    """The scheduler of `pipe`.

    Raises:
        ValueError: it has none that steps.
    """
    scheduler: Any = getattr(pipe, "scheduler", None)
    if not (callable(getattr(scheduler, "step", None)) and callable(getattr(scheduler, "set_timesteps", None))):
        raise ValueError(
            f"{type(pipe).__name__} has no scheduler with set_timesteps and step, to which guidance would be attached"
        )
    return scheduler


def networks_of(pipe: Pipeline, family: Family | None) -> dict[str, torch.nn.Module]:
    """The networks to watch, by the pipeline's name for each: all while the family is not known.

    Raises:
        ValueError: there is none, or none by the family's name.
    """
    if family is None:
        components = getattr(pipe, "components", None) or vars(pipe)
        found = {name: network for name, network in components.items() if isinstance(network, torch.nn.Module)}
        if not found:
            raise ValueError(f"{type(pipe).__name__} has no network that guidance could be attached to")
        return found
    names = [name for name in (family.denoiser, family.second_denoiser) if name is not None]
    networks = {name: getattr(pipe, name, None) for name in names}
    found = {name: network for name, network in networks.items() if isinstance(network, torch.nn.Module)}
    if not found:
        raise ValueError(
            f"{type(pipe).__name__} has no network {family.denoiser!r}, which its family names as the denoiser"
        )
    return found
