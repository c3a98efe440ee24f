"""Which family a pipeline belongs to, settled in its first guided step, and checked there."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import torch

from .families import Call, Family, Observed, is_inherited, registered_family
from .families.observed import Output
from .inference import infer
from .verification import FamilyError, verify


Scaled = Callable[[torch.Tensor], torch.Tensor | None]


def establish(observed: Observed, family: Family | None, scaled: Scaled, check: bool = True) -> Family:
    """The family of `observed.pipe`: `family`, or the registered one, or the inferred one: also of a class that does
    otherwise than the registered one that it is derived from.

    Args:
        observed: a step, with the calls of all networks of the pipeline since the step before.
        family: given by the user, or None.
        scaled: brings a sample to the scale in which the scheduler has networks see it in this step.
        check: whether a family that is known is checked against the step. It waits for the device, once.

    Raises:
        FamilyError: a known family does not describe the step.
        InferenceError: none is known, and none is seen.
    """
    known = family or registered_family(observed.pipe)
    if known is None:
        return _inferred(observed, scaled, check)
    if check:
        try:
            verify(known, of_family(observed, known), scaled)
        except FamilyError:
            if not is_inherited(known, observed.pipe):
                raise
            return _inferred(observed, scaled, check)
    return known


def _inferred(observed: Observed, scaled: Scaled, check: bool) -> Family:
    found = infer(observed)
    if check:  # on the host, where everything lies by now
        verify(found.family, found.observed, partial(_scaled_on_host, scaled, observed.sample.device))
    return found.family


def _scaled_on_host(scaled: Scaled, device: torch.device, sample: torch.Tensor) -> torch.Tensor | None:
    result = scaled(sample.to(device))
    return None if result is None else result.cpu()


def of_family(observed: Observed, family: Family) -> Observed:
    """`observed` with the calls of the family's denoisers alone; a call that the family sets aside is `aside`.

    Raises:
        FamilyError: none of the denoisers was called.
    """
    found = denoising(observed, family)
    if not found.calls:
        ran = ", ".join(dict.fromkeys(call.name for call in observed.calls)) or "none"
        raise FamilyError(
            f"{type(observed.pipe).__name__} stepped its scheduler without a call of {family.denoiser!r}, which its "
            f"family names as the denoiser; networks that ran: {ran}"
        )
    return found


def denoising(observed: Observed, family: Family) -> Observed:
    """As `of_family`, also where none of the denoisers was called."""
    calls, aside = denoiser_calls(observed.calls, family)
    return replace(observed, calls=calls, aside=observed.aside if aside is None else aside, _found={})


def denoiser_calls(calls: Sequence[Call], family: Family) -> tuple[tuple[Call, ...], Output | None]:
    """Those of `calls` that make the family's predictions, and the output of the last one that it sets aside."""
    names, aside = (family.denoiser, family.second_denoiser), None
    kept = []
    for call in calls:
        if call.name in names:
            if family.aside and any(call.arguments.get(name) is not None for name in family.aside):
                aside = call.output
            else:
                kept.append(call)
    return tuple(kept), aside


def as_made_by_hand(family: Family) -> Family:
    """What is checked of a loop written by hand, which has a weight of its own."""
    if callable(family.weight) and family.post_processing is not None:
        return family  # without it its weight cannot be recovered
    return replace(family, weight=None, post_processing=None)
