"""Names in a folder that are never samples: hidden files, leftovers of killed runs, what this package writes itself.

What the package wrote is recognised by the files next to it, so that a user's own image called trace.png counts.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from ..core.json_files import read_json


HIDDEN, MAC, UNFINISHED = "hidden", "metadata of macOS", "left by a run that was killed"
SYSTEM = ("Thumbs.db", "desktop.ini")
SEED = re.compile(r"\d{6,}\.png")  # an image of `generate`
TEMPORARY = re.compile(r"\.diffusion-guidance-.+|\..+\.[a-z0-9_]{8}(\.[A-Za-z0-9]+)?")  # see `write_atomic`
#: Written next to report.json: sheets of samples, grids, curves.
WITH_REPORT = frozenset(
    f"{name}.png"
    for name in (
        *("samples", "grid", "digits", "ratio", "pareto"),
        *("frechet", "alignment", "accuracy", "kid", "clip_score", "inception_score", "cmmd"),
        *("precision", "recall", "density", "coverage", "vendi", "saturation", "contrast"),
    )
) | {"report.json", "report.md", "report.html", "measure.png"}


def left_out(folder: str, names: Iterable[str]) -> dict[str, str]:
    """Those of the `names` in `folder` that are not samples, each with the reason."""
    names = set(names)
    found = {name: reason for name in names if (reason := _of_name(name))}
    if "trace.json" in names:
        found |= dict.fromkeys(names & {"trace.json", "trace.png"}, "a trace")
    if "report.json" in names:
        found |= dict.fromkeys(names & WITH_REPORT, "part of a report")
    for table in (name for name in names if f"{name}.json" in names and name.endswith((".csv", ".jsonl"))):
        found |= dict.fromkeys((table, f"{table}.json"), "a table of scores")
    if "settings.json" in names and _is_generated(Path(folder, "settings.json")):
        others = (name for name in names - found.keys() if "." in name and not SEED.fullmatch(name))
        found |= dict.fromkeys(others, "not an image of this run")
    return found


def summary(reasons: Iterable[str]) -> str:
    """Such as "3 hidden, 1 a trace", for a message; "" where nothing was left out."""
    reasons = list(reasons)
    return ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(sorted(reasons)))


def _of_name(name: str) -> str | None:
    if name in SYSTEM:
        return "a file of the operating system"
    if not name.startswith("."):
        return None
    return MAC if name.startswith("._") else UNFINISHED if TEMPORARY.fullmatch(name) else HIDDEN


def _is_generated(settings: Path) -> bool:
    """Whether `generate` wrote this settings.json."""
    try:
        found = read_json(settings)
    except ValueError:
        return False
    return isinstance(found, dict) and {"conditions", "pair", "versions"} <= found.keys()
