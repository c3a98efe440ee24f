"""Whether the check of a family's facts separates: single wrong facts, and right families in three precisions.

    python -m scripts.studies.coverage_alarms --diffusers-tests DIFFUSERS && python -m scripts.studies.tables

Wrong facts: of ten tiny families, each field of `Family` wrong by itself. Right ones: every class that is right in
docs/results/coverage.json, with the family that was inferred or registered for it in float32, in the other precisions.
Rows go to docs/results/coverage-check.json, and until the end to a .jsonl next to it, so that a killed run goes on.
"""

import argparse
import json
import logging
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from diffusion_guidance import Family, attach
from diffusion_guidance.attachment.describe import written
from diffusion_guidance.attachment.establish import of_family
from diffusion_guidance.attachment.families import find_family
from diffusion_guidance.attachment.verification import FamilyError, verify
from diffusion_guidance.evaluation.report import describe_run, markdown_table, read_report, write_report
from tests.attachment.seen import scaling, seen
from tests.attachment.wrong_facts import TEN, effect, wrong_facts
from tests.tiny_families import FAMILIES, Tiny

from .coverage import ROOT, alone, done, makers
from .coverage_cases import Case
from .coverage_check import is_own, run
from .coverage_classes import guided_classes, tests_by_class


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
OUTCOMES = ("passes", "false alarm", "cannot run", "not run")


def wrong(tiny: Tiny) -> list[dict]:
    """A row for each wrong fact of the family of `tiny`."""
    pipe = tiny.pipe()
    family, step = find_family(pipe), seen(pipe, lambda: tiny.draw(pipe))
    right, rows = effect(family, step), []
    for facts in wrong_facts(family):
        changed, field = replace(family, **facts), next(iter(facts))
        value = written(facts[field])
        try:
            verify(changed, of_family(step, changed), scaling(step))
        except FamilyError as error:
            rows.append({"field": field, "value": value, "outcome": "refused", "reason": str(error)})
            continue
        same = all(map(torch.equal, right, effect(changed, step)))
        rows.append({"field": field, "value": value, "outcome": "no effect" if same else "believed"})
    return [{"kind": "wrong", "pipeline": tiny.name, **row} for row in rows]


def precisions(kind: type, checkout: Path, tested: dict[str, list[str]], instance: str) -> dict:
    """What the check says of the right family of `kind` in each precision."""
    reason = f"there is no instance {instance!r}"
    for make in [make for name, make in makers(kind, checkout, tested) if name == instance]:
        try:
            case = make()
            family = _family(case)
        except Exception as error:  # of several instances by that name, one runs
            reason = f"{type(error).__name__}: {error}".split("\n")[0][:200]
            continue
        row: dict = {}
        for name, dtype in DTYPES.items():
            row |= _in(_cast(case, dtype), family, name)
        return row
    return {"result": "not run", "reason": reason}


def _family(case: Case) -> Family:
    with attach(case.pipe, lambda step, proceed: proceed(step)) as attachment:
        run(case)
        return attachment.family


def _in(case: Case, family: Family, name: str) -> dict:
    try:
        run(case)
    except Exception as error:
        return {name: "cannot run", f"{name}_reason": f"{type(error).__name__}: {error}".split("\n")[0][:200]}
    try:
        with attach(case.pipe, lambda step, proceed: proceed(step), family=family):
            run(case)
    except Exception as error:
        outcome = "false alarm" if is_own(error) else "cannot run"
        return {name: outcome, f"{name}_reason": f"{type(error).__name__}: {error}"[:400]}
    return {name: "passes"}


def _cast(case: Case, dtype: torch.dtype) -> Case:
    def cast(value: object) -> object:
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            return value.to(dtype)
        return [cast(each) for each in value] if isinstance(value, list) else value

    case.pipe.to(dtype)
    return Case(case.pipe, lambda: {name: cast(value) for name, value in case.call().items()})


def facts_table(meta: dict, rows: list[dict]) -> str:
    """One line per wrong fact, one column per family."""
    letters = {"refused": "refused", "no effect": "-", "believed": "**believed**"}
    found: dict[str, dict] = {}
    counted = Counter[tuple[str, str]]()
    for row in (row for row in rows if row["kind"] == "wrong"):
        counted[row["pipeline"], row["field"]] += 1
        name = f"{row['field']} {counted[row['pipeline'], row['field']]}"
        found.setdefault(name, {"wrong": name})[row["pipeline"]] = letters[row["outcome"]]
    return markdown_table(list(found.values()), ("wrong", *TEN))


def alarms_table(meta: dict, rows: list[dict]) -> str:
    """How many right families pass in each precision."""
    found = {name: Counter(row.get(name, "not run") for row in rows if row["kind"] == "right") for name in DTYPES}
    lines = [{"the check": outcome} | {name: found[name][outcome] for name in DTYPES} for outcome in OUTCOMES]
    return markdown_table(lines, ("the check", *DTYPES))


def others_table(meta: dict, rows: list[dict]) -> str:
    """The classes that do not pass in all precisions, and why."""
    rows = [row for row in rows if row["kind"] == "right" and any(row.get(name) != "passes" for name in DTYPES)]
    for row in rows:
        row["reason"] = next((row[f"{name}_reason"] for name in DTYPES if f"{name}_reason" in row), row.get("reason"))
    return markdown_table(rows, ("pipeline", *DTYPES, "reason"))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diffusers-tests", type=Path, required=True, metavar="FOLDER", help="diffusers' repository")
    parser.add_argument("--coverage", type=Path, default=ROOT / "docs/results/coverage.json", help="which are right")
    parser.add_argument("--json", type=Path, default=ROOT / "docs/results/coverage-check.json", help="to be written")
    parser.add_argument("--only", nargs="+", metavar="CLASS", help="run these (again), and no others")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a class (default: %(default)g)")
    args = parser.parse_args(argv)
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    checkout, path = args.diffusers_tests.resolve(), args.json.with_suffix(".jsonl")
    classes, tested, rows = guided_classes(), tests_by_class(checkout), done(path)
    right = {row["pipeline"]: row["source"] for row in read_report(args.coverage)[1] if row["result"] == "right"}
    todo = args.only or [name for name in right if name in classes and name not in rows]
    with tqdm(todo, unit="class") as progress, path.open("a", encoding="utf-8") as file:
        for name in progress:
            progress.set_description(name)
            rows[name] = {"kind": "right"} | alone(
                name, partial(precisions, classes[name], checkout, tested, right[name]), args.limit
            )
            file.write(json.dumps(rows[name]) + "\n")
            file.flush()
    tiny = [tiny for tiny in FAMILIES if tiny.name in TEN]
    wrongs = [row for each in tiny for row in wrong(each)]
    meta = describe_run()
    meta["command"] = meta["command"].replace(str(args.diffusers_tests), "DIFFUSERS")
    print(write_report(args.json, meta, [*wrongs, *(rows[name] for name in sorted(rows))]))


if __name__ == "__main__":
    main()
