"""Attach guidance to every guided pipeline class of the installed diffusers, and write down what comes out.

    git clone --depth 1 https://github.com/huggingface/diffusers DIFFUSERS
    python -m scripts.studies.coverage --diffusers-tests DIFFUSERS && python -m scripts.studies.tables

Each class runs on a tiny random instance, in a process of its own: one of the suite's, else the dummy pipeline of
diffusers' own tests, which ship with its repository only, else one made of the components of a class that is built
alike; so do the pipelines of the repository's examples/community, whose files are run. One row per class is appended to
docs/results/coverage.jsonl (not kept) as it is found, so that a killed run goes on; in the end they are written to
docs/results/coverage.json.
"""

import argparse
import json
import logging
import multiprocessing
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import torch
from tqdm import tqdm

from diffusion_guidance.evaluation.report import describe_run, markdown_table, write_report

from . import coverage_cases as cases
from .coverage_check import CHECKS, TOLERANCE, check
from .coverage_classes import embedding_classes, guided_classes, siblings, tests_by_class
from .coverage_community import community_classes
from .coverage_siblings import IMAGES, VIDEOS


ROOT = Path(__file__).resolve().parents[2]
RESULTS = ("right", "plain CFG only", "refused", "raised", "wrong", "not run")
COLUMNS = {
    "pipeline": "pipeline",
    "source": "instance",
    "result": "result",
    "weight": "weight",
    "cfg_error": "plain CFG",
    "again_error": "evaluated again",
    "raag_error": "RAAG",
    "diffier_error": "DiffIER",
    "reason": "reason",
}


def makers(kind: type, checkout: Path, tested: dict[str, list[str]]) -> Iterator[tuple[str, Callable[[], cases.Case]]]:
    """What makes instances of `kind`: the suite's own, diffusers', and those of the components of similar classes."""
    name = kind.__name__
    if not kind.__module__.startswith("community"):
        if tiny := cases.tiny_of(name):
            yield "ours", partial(cases.own_case, tiny)
        for module in tested.get(name, []):
            yield "diffusers", partial(cases.upstream_case, checkout, module, name)
    for sibling in siblings(kind, tested):
        for module, more in product(tested[sibling], ((), IMAGES, VIDEOS)):
            yield f"of {sibling}", partial(cases.sibling_case, checkout, module, sibling, kind, more)


def measure(kind: type | str, checkout: Path, tested: dict[str, list[str]]) -> dict:
    """The row of class `kind`, on the first instance that runs; of a text, the reason for which there is no class."""
    if isinstance(kind, str):
        return {"result": "not run", "reason": kind}
    reasons = ["no class that is built like it has dummy components in diffusers' tests"]
    for source, make in makers(kind, checkout, tested):
        try:
            row = {"source": source, **check(make())}
        except Exception as error:
            row = {"result": "not run", "reason": f"{type(error).__name__}: {error}".split("\n")[0][:400]}
        if row["result"] != "not run":
            return row
        reasons.append(row["reason"])
    return {"result": "not run", "reason": reasons[:2][-1]}


def alone(name: str, measure: Callable[[], dict], limit: float) -> dict:
    """The row of class `name` that `measure` makes in a process of its own, which is ended after `limit` seconds."""
    context = multiprocessing.get_context("fork")  # everything is imported already
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=lambda: send.send(measure()), daemon=True)
    start = time.monotonic()
    process.start()
    send.close()
    try:
        row = receive.recv() if receive.poll(limit) else {"result": "not run", "reason": f"took over {limit:g} s"}
    except EOFError:
        row = {"result": "not run", "reason": "its process died"}
    process.kill()
    process.join()
    return {"pipeline": name, **row, "seconds": round(time.monotonic() - start, 1)}


def done(path: Path) -> dict[str, dict]:
    """The rows that are there already, by pipeline."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return {row["pipeline"]: row for row in rows}


def counts(meta: dict, rows: list[dict]) -> str:
    """How many classes came to what."""
    found = [Counter(row["result"] for row in rows if is_community(row) == community) for community in (False, True)]
    lines = [{"result": name, "diffusers": found[0][name], "community": found[1][name]} for name in RESULTS]
    lines.append({"result": "all", "diffusers": found[0].total(), "community": found[1].total()})
    return markdown_table(lines, ("result", "diffusers", "community"))


def sentence(meta: dict, rows: list[dict]) -> str:
    """The counts of diffusers' own classes, for README.md."""
    found = Counter(row["result"] for row in rows if not is_community(row))
    version = meta["versions"]["diffusers"]
    reduced = sum(row["result"] == "right" and "diffier_error" in row for row in rows if not is_community(row))
    return (
        f"Attached to each of the {found.total()} guided pipeline classes of diffusers {version} on tiny random\n"
        f"instances: {found['right']} are right ({reduced} with DiffIER too), {found['plain CFG only']} for plain CFG "
        f"only, {found['refused']} are refused in a sentence,\n{found['wrong']} are silently wrong, and "
        f"{found['not run']} could not be run offline ([docs/coverage.md](docs/coverage.md)).\n"
    )


def embedding(meta: dict, rows: list[dict]) -> str:
    """The classes that have a guidance scale and make one prediction."""
    return ", ".join(meta["embedding"]) + ".\n"


def table(meta: dict, rows: list[dict], community: bool = False) -> str:
    """One line per class of diffusers, or of its examples/community."""
    rows = [row | _refused(row) | {"reason": _reason(row)} for row in rows if is_community(row) == community]
    return markdown_table(
        sorted(rows, key=lambda row: (RESULTS.index(row["result"]), row["pipeline"])), COLUMNS, digits=2
    )


def is_community(row: dict) -> bool:
    """Whether it is of diffusers' examples/community; it is then named by its file too."""
    return row["origin"] == "community"


def _refused(row: dict) -> dict:
    return {f"{name}_error": "refused" for name in CHECKS if f"{name}_reason" in row}


def _reason(row: dict) -> str | None:
    reason = row.get("reason") or next(filter(None, (row.get(f"{name}_reason") for name in CHECKS)), None)
    return reason and " ".join(reason.replace("|", "/").replace("<", "(").replace(">", ")").split())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diffusers-tests", type=Path, required=True, metavar="FOLDER", help="diffusers' repository")
    parser.add_argument("--json", type=Path, default=ROOT / "docs/results/coverage.json", help="the report to write")
    parser.add_argument("--only", nargs="+", metavar="CLASS", help="run these (again), and no others")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds a class (default: %(default)g)")
    args = parser.parse_args(argv)
    os.environ["HF_HUB_OFFLINE"] = "1"
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    checkout, path = args.diffusers_tests.resolve(), args.json.with_suffix(".jsonl")
    own, tested, rows = guided_classes(), tests_by_class(checkout), done(path)
    classes = own | community_classes(checkout)
    todo = args.only or [name for name in classes if name not in rows]
    with tqdm(todo, unit="class") as progress, path.open("a", encoding="utf-8") as file:
        for name in progress:
            progress.set_description(name)
            row = alone(name, partial(measure, classes[name], checkout, tested), args.limit)
            rows[name] = row | {"origin": "diffusers" if name in own else "community"}
            file.write(json.dumps(rows[name]) + "\n")
            file.flush()
    meta = describe_run(tolerance=TOLERANCE, steps=3, embedding=embedding_classes())
    meta["command"] = meta["command"].replace(str(args.diffusers_tests), "DIFFUSERS")
    print(write_report(args.json, meta, [rows[name] for name in sorted(rows)]))


if __name__ == "__main__":
    main()
