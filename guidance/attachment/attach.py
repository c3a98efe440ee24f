"""Attaching callbacks to a pipeline that knows nothing of them, and taking them off."""

from collections.abc import Iterable

from ..core.callback import Guide, as_list
from ..core.order import check_order
from ..core.protocols import Pipeline
from .attached import Attachment, attached_to
from .families import Family


def attach(
    pipe: Pipeline,
    guidance: Guide | Iterable[Guide],
    *,
    family: Family | None = None,
    verify: bool = True,
    check_finite: bool = False,
    post_process: bool = True,
    skip: bool = True,
) -> "Attachment":
    """Attach `guidance` to `pipe` until the `with` block ends, or until `detach()` is called.

    Args:
        pipe: a diffusers pipeline; its code is not touched.
        guidance: a callback, or several, applied in order: the first is nearest to the network.
        family: how the pipeline calls its network; by default the one that is registered for its class (see
            `register_family`), and without one it is inferred in the first guided step.
        verify: check in the first guided step of a run that the family describes it, with one read of the device.
            What is not described there stops the run with a FamilyError, a ValueError. It also refuses the first
            evaluation that a callback asks for where hooks or attention processors keep tensors from call to call, as
            third-party caches do; False lets those through that only watch.
        check_finite: stop with an error at the first prediction that is not finite. It waits for the device at every
            step, so it is for finding a fault, not for production.
        post_process: whether what the pipeline does to its combination (`guidance_rescale`, QwenImage's norm, SD3's
            skip layers, ...; see `Family.post_processing`) is done to that of the callbacks too. It is done once, after
            the last callback: callbacks see and combine predictions before it. What the callbacks leave unchanged is
            the pipeline's own output, to the bit, in any case.
        skip: leave out the unconditional pass of steps in which no callback reads it (outside of an interval, weight
            1); `Callback.unconditional` tells. The images are the same except for rounding. Both passes run all the
            same in the first guided step, with a compiled or cached network, with post-processing, with three
            predictions, and without `verify`.

    Returns:
        The attachment, to be used as a context manager. It serves any number of calls of the pipeline, and loops
        written by hand that step the pipeline's scheduler.

    Raises:
        ValueError: the pipeline has no scheduler, or no network, that could be watched; or a callback of the list can
            have no effect, see `check_order`.
        TypeError: `guidance` is not callable or a list of callables.
        RuntimeError: something is attached to the pipeline already.
    """
    callbacks = as_list(guidance)
    check_order(callbacks)
    return Attachment(
        pipe,
        callbacks,
        family=family,
        verify=verify,
        check_finite=check_finite,
        post_process=post_process,
        skip=skip,
    )


def detach(pipe: Pipeline) -> None:
    """Take off whatever is attached to `pipe`, also where nobody kept what `attach` returned. Nothing attached: do
    nothing."""
    for attachment in attached_to(pipe):
        attachment.detach()
