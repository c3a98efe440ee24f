"""What was seen of a pipeline in one step: the calls of its network, and what it gave its scheduler."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from ...core.protocols import Pipeline


Output = torch.Tensor | list[torch.Tensor]  # a prediction, or one for each sample
Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a network, as its forward hook saw it.

    Attributes:
        module: the network that was called.
        arguments: by name, positional ones too. Lists and dictionaries are copies: networks change those they get.
        output: the prediction in what it returned, see `prediction_of`: a tensor, or a list of tensors, one a sample.
        name: the attribute of the pipeline that holds the network.
        returned: all that the network returned.
    """

    module: torch.nn.Module
    arguments: dict
    output: Output
    name: str = ""
    returned: object = None


@dataclass(frozen=True, eq=False)
class Observed:
    """One step of a pipeline, before its scheduler's `step` runs.

    Attributes:
        pipe: the pipeline.
        calls: of the denoiser since the step before, in order.
        output, timestep, sample: what `step` was given as `model_output`, `timestep` and `sample`.
        aside: output of the last call that does not belong to classifier-free guidance, or None.
    """

    pipe: Pipeline
    calls: tuple[Call, ...]
    output: torch.Tensor
    timestep: torch.Tensor
    sample: torch.Tensor
    aside: Output | None = None
    _found: dict[str, Any] = field(default_factory=dict, repr=False)

    def once(self, name: str, find: Callable[[], Found]) -> Found:
        """`find()`, evaluated once in this step."""
        if name not in self._found:
            self._found[name] = find()
        return self._found[name]


def prediction_of(output: Any) -> Any:
    """The prediction in what a network returned: the first entry of a tuple, a dictionary or a diffusers output.

    A list of tensors is one prediction, one tensor a sample; so is a tensor.
    """
    if isinstance(output, tuple):
        return prediction_of(output[0]) if output else None
    if isinstance(output, dict):
        return prediction_of(next(iter(output.values()), None))
    if isinstance(output, list) and not (output and all(isinstance(entry, torch.Tensor) for entry in output)):
        return prediction_of(output[0]) if output else None
    return output
