"""Tables and plots of scripts/studies/peers.py."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffusion_guidance.evaluation import curve_plot, markdown_table
from scripts.studies.peers_methods import PLAIN


SETTINGS = ("weight", "w_max", "scale", "prior")
DIFFERENCES = {"difference_to_best": "frechet minus that of CFG's best"}
DIFFERENCES |= {"frechet_difference": "frechet minus CFG's at equal effective weight"}
RANKED = {"method": "method", "setting": "setting", "steps": "steps", "nfe": "nfe"}
RANKED |= {"effective_weight": "effective weight", "frechet": "frechet"} | DIFFERENCES
RANKED |= {"alignment_difference": "alignment minus CFG's there", "survives": "gain survives"}
UNKNOWN = "Not known: these rows were measured without effective weights.\n"


def with_setting(row: Mapping) -> dict:
    """The row, with its setting in words."""
    (name,) = (name for name in SETTINGS if name in row)
    return {**row, "setting": f"{name} {row[name]:g}"}


def best(rows: Sequence[Mapping]) -> list[dict]:
    """Each method at its best setting, the best method first."""
    rows = [with_setting(row) for row in rows]
    methods = dict.fromkeys(row["method"] for row in rows)
    lines = [min((row for row in rows if row["method"] == name), key=lambda row: row["frechet"]) for name in methods]
    return sorted(lines, key=lambda line: line["frechet"])


def verdict(row: Mapping) -> str:
    """Whether a gain over plain guidance at its best survives equal effective weights: both intervals lie below 0.

    A method that is only less bad than plain guidance at a weight that nobody would choose has gained nothing.
    """
    if row["method"] == PLAIN:
        return "-"
    if "frechet_difference" not in row:
        return "no CFG there"
    low, high = row["frechet_difference_interval"]
    if high < 0:
        return "yes" if row["difference_to_best_interval"][1] < 0 else "at that weight only"
    return "worse" if low > 0 else "no"


def ranked(rows: Sequence[Mapping]) -> list[dict]:
    """The rows of `best` ordered by the difference at equal effective weight: first those whose gain survives, last
    those without a difference."""
    lines = [line | {"survives": verdict(line)} for line in best(rows) if "effective_weight" in line]
    return sorted(lines, key=lambda line: (line["survives"] != "yes", line.get("frechet_difference", float("inf"))))


def ranked_table(rows: Sequence[Mapping]) -> str:
    """The table, and which gains survive in a sentence."""
    lines = ranked(rows)
    if not lines:
        return UNKNOWN
    names = [line["method"] for line in lines if line["survives"] == "yes"]
    kept = f"The gain survives for {', '.join(names)}." if names else "No gain survives."
    return f"{lines[0]['samples']} images a row. {kept}\n\n{markdown_table(lines, RANKED, digits=3)}"


def best_table(rows: Sequence[Mapping]) -> str:
    """Each method at its best setting."""
    columns = ["method", "setting", "steps", "nfe", "effective_weight", "frechet", "alignment"]
    lines = best(rows)
    return f"{lines[0]['samples']} images a row.\n\n{markdown_table(lines, columns, digits=3)}"


def plot(path: Path, rows: Sequence[Mapping]) -> None:
    """Frechet distance over the effective weight; the best six methods, and CFG."""
    names = {PLAIN, *[line["method"] for line in best(rows)][:6]}
    weight = "effective_weight" if "effective_weight" in rows[0] else "weight"
    curve_plot(path, [row for row in rows if row["method"] in names], x=weight)
