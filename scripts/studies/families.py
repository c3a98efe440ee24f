"""Run every family of pipelines on a tiny instance with random weights, and write down what works and how exactly.

    python -m scripts.studies.families && python -m scripts.studies.tables

It writes docs/results/families.json, from which the tables of docs/families.md are made. It takes about a minute.
"""

import inspect
import logging
import warnings

import torch

from diffusion_guidance import CFG, attach, pipelines
from diffusion_guidance.attachment.families import find_family, table
from diffusion_guidance.core.kinds import known_kinds
from diffusion_guidance.evaluation.report import markdown_table
from scripts.studies.study import Report, Run, Study, Table, of_rows
from tests.tiny_families import FAMILIES, VARIANTS, Tiny, relative_error


STEPS = 3
COLUMNS = {
    "family": "family",
    "pipeline": "pipeline",
    "calls": "calls per step",
    "identity_error": "identity error",
    "identity_error_bfloat16": "in bfloat16",
    "denoise_error": "evaluated again",
    "weight": "weight",
    "post_processing": "after the combination",
    "works": "methods that work",
    "fails": "methods that do not",
    "notes": "notes",
}


def measure(tiny: Tiny) -> dict:
    """One row: errors are largest differences over the largest value of the latents."""
    pipe = tiny.pipe()
    family = find_family(pipe)
    plain = tiny.draw(pipe, STEPS)
    works, fails = methods(tiny, pipe)
    return {
        "family": tiny.family or tiny.name,
        "variant": tiny.name,
        "pipeline": type(pipe).__name__,
        "calls": f"{family.calls}, {'conditional' if family.cond_first else 'unconditional'} first",
        "identity_error": identity_error(tiny, pipe, plain),
        "identity_error_bfloat16": half_identity_error(tiny),
        "denoise_error": denoise_error(tiny, pipe),
        "weight": "told"
        if family.weight and not callable(family.weight)
        else "found"
        if family.weight
        else "recovered",
        "post_processing": family.post_processing and family.post_processing.name,
        "works": ", ".join(works),
        "fails": "; ".join(f"{name}: {reason}" for name, reason in fails.items()) or None,
        "notes": tiny.notes or None,
    }


def identity_error(tiny: Tiny, pipe, plain: torch.Tensor) -> float:
    with attach(pipe, CFG(weight=tiny.weight)):
        return relative_error(tiny.draw(pipe, STEPS), plain)


def half_identity_error(tiny: Tiny) -> float:
    pipe = tiny.pipe(torch.bfloat16)
    return identity_error(tiny, pipe, tiny.draw(pipe, STEPS))


def denoise_error(tiny: Tiny, pipe) -> float:
    errors = []

    def again(step, proceed):
        for result, seen in zip(step.denoise(step.sample, step.timestep), (step.cond, step.uncond), strict=True):
            errors.append(relative_error(result, seen))
        return proceed(step)

    with attach(pipe, again):
        tiny.draw(pipe, STEPS)
    return max(errors)


def methods(tiny: Tiny, pipe) -> tuple[list[str], dict[str, str]]:
    """Names of the callbacks that give a finite result, and the errors of those that do not."""
    works, fails = [], {}
    for kind in callbacks():
        try:
            with attach(pipe, kind()):
                finite = bool(tiny.draw(pipe, STEPS).isfinite().all())
        except (RuntimeError, ValueError, NotImplementedError) as error:
            fails[kind.__name__] = str(error).split("\n")[0]
        else:
            works.append(kind.__name__) if finite else fails.setdefault(kind.__name__, "result is not finite")
    return works, fails


def family_table(rows: list[dict]) -> str:
    """A row for each family."""
    return markdown_table([row for row in rows if row["variant"] == row["family"]], COLUMNS, digits=2)


def variant_table(rows: list[dict]) -> str:
    """A row for each further pipeline, or way to call one, of a family."""
    variants = [dict(row, family=row["variant"]) for row in rows if row["variant"] != row["family"]]
    short = {name: COLUMNS[name] for name in ("family", "pipeline", "identity_error", "denoise_error", "notes")}
    return markdown_table(variants, short | {"family": "variant"}, digits=2)


def callbacks() -> list[type]:
    """The package's callbacks that need no argument; the others need a model, which is not a matter of the family."""
    kinds = sorted(set(known_kinds().values()), key=lambda kind: kind.__name__)
    return [kind for kind in kinds if kind.__module__.startswith("diffusion_guidance.") and _needs_nothing(kind)]


def _needs_nothing(kind: type) -> bool:
    arguments = list(inspect.signature(kind).parameters.values())
    return all(argument.default is not argument.empty for argument in arguments)


def unmeasured(rows: list[dict]) -> list[str]:
    """Pipelines of diffusers with a shipped family that a report leaves out: with any, it is stale."""
    shipped = {name for family in table.FAMILIES for name in family.pipelines}
    return sorted(shipped - {row["pipeline"] for row in rows} - set(pipelines.__all__))


def measure_all(run: Run) -> tuple[dict, list[dict]]:
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rows = []
    for tiny in FAMILIES + VARIANTS:
        rows.append(measure(tiny))
        print(f"{tiny.name}: identity error {rows[-1]['identity_error']:.1e}", flush=True)
    facts = {"samples": 2, "seeds": [1], "steps": STEPS, "callbacks": [kind.__name__ for kind in callbacks()]}
    if missing := unmeasured(rows):
        raise SystemExit(f"these were not run: {', '.join(missing)}; add a tiny instance to tests/tiny_families")
    return facts, rows


STUDY = Study(
    __doc__,
    (
        Report(
            "families",
            measure_all,
            (
                Table("docs/families.md", "families", "families", of_rows(family_table)),
                Table("docs/families.md", "variants", "families", of_rows(variant_table)),
            ),
        ),
    ),
    samples="2, always",
)

if __name__ == "__main__":
    STUDY.main()
