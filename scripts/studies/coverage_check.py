"""Whether guidance attached to one pipeline is right: plain CFG, a second evaluation, RAAG and DiffIER."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import diffusion_guidance
from diffusion_guidance import RAAG, DiffIER, attach
from diffusion_guidance.core.combine import classifier_free_guidance

from .coverage_cases import Case


TOLERANCE = 2e-5  # of the largest value, in float32
W_MAX, ALPHA = 4.0, 2.0  # of RAAG
CHECKS = ("cfg", "again", "raag", "diffier")
ROUNDING = 1e-7  # a change of the first latents of this size, and what the pipeline itself makes of it
_PACKAGE = str(Path(diffusion_guidance.__file__).parent)


class Recombine:
    """Plain CFG at the pipeline's own weight. Attributes: `weights` of the guided steps; `steps`, all that it saw."""

    def __init__(self):
        self.weights: list[float] = []
        self.steps = 0

    def __call__(self, step, proceed):
        self.steps += 1
        if not step.has_unconditional:
            return proceed(step)
        weight = step.pipeline_weight
        self.weights.append(float(torch.as_tensor(weight, dtype=torch.float64).abs().max()))
        return classifier_free_guidance(step.cond, step.uncond, weight)


class Again:
    """Evaluates the network at the step's own point. Attributes: `error`, the largest one; `count` of evaluations."""

    def __init__(self):
        self.error, self.count = 0.0, 0

    def __call__(self, step, proceed):
        found = step.denoise(step.sample, step.timestep)
        for result, seen in zip(found, (step.cond, step.uncond), strict=True):
            if seen is not None:
                self.error = max(self.error, difference([result], [seen]))
                self.count += 1
        return proceed(step)


def written_out(step, proceed):
    """RAAG in float64."""
    if not step.has_unconditional:
        return proceed(step)
    uncond, direction = step.uncond.double(), step.cond.double() - step.uncond.double()
    ratio = (direction.flatten(1).norm(dim=1) / uncond.flatten(1).norm(dim=1)).reshape(-1, *[1] * (uncond.ndim - 1))
    return (uncond + (1 + (W_MAX - 1) * torch.exp(-ALPHA * ratio)) * direction).to(step.cond.dtype)


def of_raag(case: Case) -> dict:
    """The error of RAAG, against a run with the formula written out."""
    written: list[list] = []
    row = attempt(case, written_out, "raag", lambda result: written.append(result) or 0.0)
    if "raag_reason" in row:
        return row
    return attempt(case, RAAG(W_MAX, ALPHA), "raag", lambda result: difference(result, written[0]))


def check(case: Case) -> dict:
    """One row of results: `result`, and what was measured.

    The result is *right*, *refused*, *wrong*, or *not run*; *plain CFG only* where the second evaluation is refused.
    DiffIER has a step size of 0: it evaluates the network at the next point of every step, and changes nothing.
    """
    plain = run(case)
    if not plain:
        return {"result": "not run", "reason": "the pipeline gives nothing that could be compared"}
    noise = difference(run(case), plain)
    if noise > 0:
        return {"result": "not run", "reason": f"the pipeline differs from itself by {noise:.2g} with the same seeds"}
    recombine, again = Recombine(), Again()
    row = attempt(case, recombine, "cfg", lambda result: difference(result, plain))
    if "cfg_reason" not in row and not recombine.steps and denoises(case):
        return {"result": "wrong", "cfg_reason": "no callback ran, and nothing was said", **row}
    if "cfg_reason" not in row and not recombine.weights:
        return {"result": "not run", "reason": "no step is guided, as the tests call it", **row}
    row["weight"] = max(recombine.weights, default=None)
    row |= attempt(case, again, "again", lambda result: max(again.error, difference(result, plain)))
    row |= of_raag(case) | attempt(case, DiffIER(step_size=0.0), "diffier", lambda result: difference(result, plain))
    if any(not row.get(f"{name}_error", 0.0) <= TOLERANCE for name in CHECKS):
        row["own_error"] = sensitivity(case, plain)
    return {"result": verdict(row), **row}


def denoises(case: Case) -> bool:
    """Whether a call of the pipeline calls a network at all: with few steps and little strength there may be none."""
    called = []
    names = ("transformer", "transformer_2", "unet", "prior", "decoder")
    networks = [network for name in names if isinstance(network := getattr(case.pipe, name, None), torch.nn.Module)]
    handles = [network.register_forward_hook(lambda *_: called.append(1)) for network in networks]
    run(case)
    for handle in handles:
        handle.remove()
    return bool(called)


def sensitivity(case: Case, plain: list[torch.Tensor]) -> float:
    """What the pipeline alone makes of a change of its first latents by `ROUNDING`; 0 where it takes none."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(plain[0].shape, generator=generator)
    changed = latents * (1 + ROUNDING * torch.randn(latents.shape, generator=generator).sign())
    try:
        first, second = (run(Case(case.pipe, lambda x=x: case.call() | {"latents": x})) for x in (latents, changed))
    except Exception:
        return 0.0
    return difference(second, first)


def verdict(row: dict) -> str:
    """What the row comes to. Tiny random networks can amplify rounding: ten times their own error is allowed."""
    errors = [row[f"{name}_error"] for name in CHECKS if f"{name}_error" in row]
    if any(not error <= max(TOLERANCE, 10 * row.get("own_error", 0.0)) for error in errors):
        return "wrong"
    if not all(row.get(f"{name}_own", True) for name in CHECKS):
        return "raised"
    if "cfg_reason" in row:
        return "refused"
    return "plain CFG only" if "again_reason" in row else "right"


def attempt(case: Case, callback: Callable, name: str, error: Callable[[list], float]) -> dict:
    """The error with `callback` attached, or the reason for which it is refused, and whether that is our sentence."""
    try:
        with attach(case.pipe, callback):
            return {f"{name}_error": error(run(case))}
    except Exception as raised:
        return {f"{name}_reason": f"{type(raised).__name__}: {raised}"[:600], f"{name}_own": is_own(raised)}


def is_own(error: BaseException) -> bool:
    """Whether the package itself raised it."""
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    return last.tb_frame.f_code.co_filename.startswith(_PACKAGE)


def run(case: Case) -> list[torch.Tensor]:
    """The tensors that a call of the pipeline gives."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    with torch.no_grad():
        return tensors(case.pipe(**case.call()))


def tensors(value) -> list[torch.Tensor]:
    """All of `value`, an output of a pipeline."""
    if isinstance(value, torch.Tensor):
        return [value.float()] if value.numel() else []
    if isinstance(value, (list, tuple)):
        return [found for each in value for found in tensors(each)]
    if hasattr(value, "values") and not hasattr(value, "shape"):
        return tensors(list(value.values()))
    if hasattr(value, "shape") or hasattr(value, "getbands"):  # of numpy, or an image
        return [torch.as_tensor(np.asarray(value)).float()]
    return []


def difference(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Largest difference over the largest value; NaN where the shapes differ or a value is not finite."""
    if [value.shape for value in found] != [value.shape for value in expected]:
        return float("nan")
    pairs = zip(found, expected, strict=True)
    errors = [((a - b).abs().max() / b.abs().max().clamp(min=1e-12)).item() for a, b in pairs]
    return float("nan") if any(error != error for error in errors) else max(errors, default=0.0)
