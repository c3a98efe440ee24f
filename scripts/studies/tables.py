"""Make the documents' tables, and the plots, from docs/results/*.json and from the source: nothing is typed twice.

python -m scripts.studies.tables            # write them
python -m scripts.studies.tables --check    # write nothing; name those that are stale, and fail
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from diffusion_guidance.cli import calibration_report
from diffusion_guidance.evaluation.report import markdown_table, replace_table
from scripts.studies import (
    coverage,
    coverage_alarms,
    diffier,
    diffier_objectives,
    elucd,
    emoji_diffier,
    emoji_elucd,
    emoji_heldout,
    emoji_raag,
    families,
    methods_table,
    peers,
    raag,
    rigid,
    rigid_real,
    tune_encoder,
    upstream_tests,
)
from scripts.studies.study import RESULTS, ROOT, Report, Table, of_rows


STUDIES = {
    "raag": raag.STUDY,
    "elucd": elucd.STUDY,
    "diffier": diffier.STUDY,
    "diffier_objectives": diffier_objectives.STUDY,
    "tune_encoder": tune_encoder.STUDY,
    "rigid": rigid.STUDY,
    "rigid_real": rigid_real.STUDY,
    "peers": peers.STUDY,
    "families": families.STUDY,
    "emoji_raag": emoji_raag.STUDY,
    "emoji_diffier": emoji_diffier.STUDY,
    "emoji_elucd": emoji_elucd.STUDY,
    "emoji_heldout": emoji_heldout.STUDY,
}


def benchmark(*columns: str) -> Callable[[dict, list[dict]], str]:
    """A benchmark's rows, in these columns."""

    def table(meta: dict, rows: list[dict]) -> str:
        brackets = "; quartiles in brackets" if any(name.endswith("_quartiles") for name in rows[0]) else ""
        return f"One run, torch {meta['versions']['torch']}{brackets}:\n\n" + markdown_table(rows, columns, digits=3)

    return table


_CLASSIFIER = ("world", "batch", "plain_ms", "callback_ratio", "callback_us_a_step", "classifier_ratio")
_FAMILIES = ("family", "batched", "time_ratio", "modular_guider", "time_ratio_to_modular", "difference_to_modular")
_SKIPPED = ("network", "steps", "nfe", "nfe_both", "r", "time_ratio", "bound", "difference", "cfg_ms", "skipped_ms")
_THREADS = ("network", "threads", "guided", "calls", "equal", "others")
_FIRST_STEP = ("network", "values", "infer_ms", "infer_median_ms", "check_ms", "check_median_ms", "hooks_ms")
_OVERHEAD = ("network", "batch", "callback", "us_a_step", "time_ratio", "plain_ms", "attached_ms")
_EVALUATION = ("method", "samples", "dimensions", "frechet", "pictures_per_second", "peak_mib")
_RIGID = ("draws", "speedup", "pictures_per_second", "peak_mib", "peak_mib_of_eight_times_the_pictures")
_TRUST = ("what", "check_ms", "share", "time_ratio", "with_ms", "without_ms")

TABLES = (
    *(table for study in STUDIES.values() for report in study.reports for table in report.tables),
    Table("docs/methods.md", "methods", None, methods_table.table),
    Table("docs/elucd.md", "benchmark", "benchmark_classifier", benchmark(*_CLASSIFIER)),
    Table("docs/calibration.md", "calibration", "calibration", calibration_report.document),
    Table("docs/rigid.md", "benchmark", "benchmark_rigid", benchmark(*_RIGID)),
    Table("docs/families.md", "overhead", "overhead", benchmark(*_OVERHEAD)),
    Table("docs/guides/servers.md", "threads", "threads", benchmark(*_THREADS)),
    Table("docs/families.md", "first step", "first_step", benchmark(*_FIRST_STEP)),
    Table("docs/families.md", "skipped", "skipped", benchmark(*_SKIPPED)),
    Table("docs/families.md", "benchmark", "benchmark_families", benchmark(*_FAMILIES)),
    Table("README.md", "covered", "coverage", coverage.sentence),
    Table("docs/coverage.md", "counts", "coverage", coverage.counts),
    Table("docs/coverage.md", "one prediction", "coverage", coverage.embedding),
    Table("docs/coverage.md", "classes", "coverage", coverage.table),
    Table("docs/coverage.md", "community", "coverage", partial(coverage.table, community=True)),
    Table("docs/coverage.md", "wrong facts", "coverage-check", coverage_alarms.facts_table),
    Table("docs/coverage.md", "false alarms", "coverage-check", coverage_alarms.alarms_table),
    Table("docs/coverage.md", "other precisions", "coverage-check", coverage_alarms.others_table),
    Table("docs/pipelines.md", "upstream", "upstream", of_rows(upstream_tests.table)),
    Table("docs/evaluation.md", "benchmark", "benchmark_evaluation", benchmark(*_EVALUATION)),
    Table("docs/evaluation.md", "trust", "benchmark_trust", benchmark(*_TRUST)),
)


def reports() -> Iterator[Report]:
    """The plots of all studies that have been measured."""
    for study in STUDIES.values():
        yield from (report for report in study.reports if (RESULTS / f"{report.name}.json").exists())


def stale() -> list[Table]:
    """The tables that are not what their reports give today. Nothing is written."""
    return [table for table in TABLES if table.made() != table.written()]


def stale_plots() -> list[Path]:
    """The plots that do not show their reports as they are today."""
    return [plot for report in reports() for plot in report.stale_plots()]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, and fail where a table is stale")
    if parser.parse_args(arguments).check:
        if found := [f"{table.document} ({table.mark})" for table in stale()] + [plot.name for plot in stale_plots()]:
            names = ", ".join(found)
            sys.exit(f"stale: {names}; run python -m scripts.studies.tables")
        return
    for table in TABLES:
        print(replace_table(ROOT / table.document, table.mark, table.made()))
    for report in reports():
        for plot in report.draw(RESULTS / f"{report.name}.json"):
            print(plot)


if __name__ == "__main__":
    main()
