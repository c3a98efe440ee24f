"""Make the tables of the documents from docs/results/*.json, so that no number is typed.

python -m scripts.studies.tables            # write them
python -m scripts.studies.tables --check    # write nothing; name those that are stale, and fail
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import scripts.studies.diffier_report as diffier
from diffusion_guidance.cli import calibration_report
from diffusion_guidance.evaluation.report import markdown_table, read_report, replace_table
from scripts.studies import coverage, elucd_report, families, peers, raag, rigid, tune_encoder, upstream_tests


ROOT = Path(__file__).resolve().parents[2]
Render = Callable[[dict, list[dict]], str]


@dataclass(frozen=True)
class Table:
    """A table of a document.

    Attributes:
        document: path of the document, from the root.
        mark: it stands between `<!-- MARK -->` and `<!-- end -->`.
        result: name of the report in docs/results that it is made from; see `scripts.studies.__main__`.
        render: the table from the report's facts and rows.
    """

    document: str
    mark: str
    result: str
    render: Render

    def made(self) -> str:
        """The table as the report has it today."""
        return self.render(*read_report(ROOT / f"docs/results/{self.result}.json"))

    def written(self) -> str:
        """The table as it stands in the document.

        Raises:
            ValueError: the document has no such mark, or more than one.
        """
        text = (ROOT / self.document).read_text(encoding="utf-8")
        found = re.findall(rf"<!-- {re.escape(self.mark)} -->\n(.*?)<!-- end -->", text, flags=re.S)
        if len(found) != 1:
            raise ValueError(f"{self.document} has {len(found)} places <!-- {self.mark} --> ... <!-- end -->, not one")
        return found[0]

    def is_stale(self) -> bool:
        return self.made() != self.written()


def of_rows(table: Callable[..., str], *args) -> Render:
    """A table that needs the rows alone."""
    return lambda meta, rows: table(rows, *args)


def benchmark(*columns: str) -> Render:
    """A benchmark's rows, in these columns."""

    def table(meta: dict, rows: list[dict]) -> str:
        brackets = "; quartiles in brackets" if any(name.endswith("_quartiles") for name in rows[0]) else ""
        return f"One run, torch {meta['versions']['torch']}{brackets}:\n\n" + markdown_table(rows, columns, digits=3)

    return table


_CLASSIFIER = ("world", "batch", "plain_ms", "callback_ratio", "callback_us_a_step", "classifier_ratio")
_FAMILIES = ("family", "batched", "time_ratio", "modular_guider", "time_ratio_to_modular", "difference_to_modular")
_EVALUATION = ("method", "samples", "dimensions", "frechet", "pictures_per_second", "peak_mib")
_RIGID = ("draws", "speedup", "pictures_per_second", "peak_mib", "peak_mib_of_eight_times_the_pictures")
_TRUST = ("what", "check_ms", "share", "time_ratio", "with_ms", "without_ms")

TABLES = (
    Table("docs/raag.md", "raag", "raag", raag.every_row),
    Table("docs/elucd.md", "elucd", "elucd", of_rows(elucd_report.summary_table)),
    Table("docs/elucd.md", "benchmark", "benchmark_classifier", benchmark(*_CLASSIFIER)),
    Table("docs/calibration.md", "calibration", "calibration", calibration_report.document),
    Table("docs/diffier.md", "diffier best", "diffier-best", of_rows(diffier.best_table)),
    Table("docs/diffier.md", "diffier summary", "diffier", of_rows(diffier.summary_table)),
    Table("docs/diffier.md", "diffier equal steps", "diffier", of_rows(diffier.summary_table, "steps")),
    Table("docs/diffier.md", "diffier steps", "diffier", of_rows(diffier.steps_table)),
    Table("docs/diffier.md", "diffier settings", "diffier", of_rows(diffier.varied_table)),
    Table("docs/rigid.md", "rigid", "rigid", of_rows(rigid.markdown)),
    Table("docs/rigid.md", "tuning", "rigid-tuning", of_rows(tune_encoder.document)),
    Table("docs/rigid.md", "benchmark", "benchmark_rigid", benchmark(*_RIGID)),
    Table("docs/families.md", "families", "families", of_rows(families.family_table)),
    Table("docs/families.md", "variants", "families", of_rows(families.variant_table)),
    Table("docs/families.md", "overhead", "overhead", benchmark("batch", "time_ratio", "plain_ms", "attached_ms")),
    Table("docs/families.md", "benchmark", "benchmark_families", benchmark(*_FAMILIES)),
    Table("docs/coverage.md", "counts", "coverage", coverage.counts),
    Table("docs/coverage.md", "classes", "coverage", coverage.table),
    Table("docs/pipelines.md", "upstream", "upstream", of_rows(upstream_tests.table)),
    Table("docs/peers.md", "peers", "peers", of_rows(peers.best_table)),
    Table("docs/evaluation.md", "benchmark", "benchmark_evaluation", benchmark(*_EVALUATION)),
    Table("docs/evaluation.md", "trust", "benchmark_trust", benchmark(*_TRUST)),
)


def stale() -> list[Table]:
    """The tables that are not what their reports give today. Nothing is written."""
    return [table for table in TABLES if table.is_stale()]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a table is stale")
    if parser.parse_args(arguments).check:
        if found := stale():
            names = ", ".join(f"{table.document} ({table.mark})" for table in found)
            sys.exit(f"stale: {names}; run python -m scripts.studies.tables")
        return
    for table in TABLES:
        print(replace_table(ROOT / table.document, table.mark, table.made()))


if __name__ == "__main__":
    main()
