"""Make the tables of the documents from docs/results/*.json, so that no figure is typed."""

from collections.abc import Callable
from pathlib import Path

import scripts.studies.diffier_report as diffier
from diffusion_guidance.cli import calibration_report
from diffusion_guidance.evaluation.report import markdown_table, read_report, replace_table
from scripts.studies import elucd_report as study_elucd_report
from scripts.studies import peers as study_peers
from scripts.studies import raag as study_raag
from scripts.studies import rigid as study_rigid
from scripts.studies import tune_encoder, upstream_tests


ROOT = Path(__file__).resolve().parent.parent.parent


def benchmark(*columns: str) -> Callable[[dict, list[dict]], str]:
    """A benchmark's rows, in these columns."""

    def table(meta: dict, rows: list[dict]) -> str:
        brackets = "; quartiles in brackets" if any(name.endswith("_quartiles") for name in rows[0]) else ""
        return f"One run, torch {meta['versions']['torch']}{brackets}:\n\n" + markdown_table(rows, columns, digits=3)

    return table


#: (document, mark, result, table of its meta data and rows)
TABLES: tuple[tuple[str, str, str, Callable[[dict, list[dict]], str]], ...] = (
    ("README.md", "raag", "raag", lambda meta, rows: study_raag.comparison(rows)),
    ("docs/raag.md", "raag", "raag", study_raag.every_row),
    ("README.md", "elucd", "elucd", lambda meta, rows: study_elucd_report.headline(rows)),
    ("docs/elucd.md", "elucd", "elucd", lambda meta, rows: study_elucd_report.summary_table(rows)),
    (
        "docs/elucd.md",
        "benchmark",
        "benchmark_classifier",
        benchmark("world", "batch", "plain_ms", "callback_ratio", "callback_us_a_step", "classifier_ratio"),
    ),
    ("docs/calibration.md", "calibration", "calibration", calibration_report.document),
    ("README.md", "diffier", "diffier-best", lambda meta, rows: diffier.headline(rows)),
    ("docs/diffier.md", "diffier best", "diffier-best", lambda meta, rows: diffier.best_table(rows)),
    ("docs/diffier.md", "diffier summary", "diffier", lambda meta, rows: diffier.summary_table(rows)),
    ("docs/diffier.md", "diffier equal steps", "diffier", lambda meta, rows: diffier.summary_table(rows, "steps")),
    ("docs/diffier.md", "diffier steps", "diffier", lambda meta, rows: diffier.steps_table(rows)),
    ("docs/diffier.md", "diffier settings", "diffier", lambda meta, rows: diffier.varied_table(rows)),
    ("docs/rigid.md", "rigid", "rigid", lambda meta, rows: study_rigid.markdown(rows)),
    ("docs/rigid.md", "tuning", "rigid-tuning", lambda meta, rows: tune_encoder.document(rows)),
    ("docs/families.md", "overhead", "overhead", benchmark("batch", "time_ratio", "plain_ms", "attached_ms")),
    (
        "docs/families.md",
        "benchmark",
        "benchmark_families",
        benchmark(
            "family", "batched", "time_ratio", "modular_guider", "time_ratio_to_modular", "difference_to_modular"
        ),
    ),
    ("docs/pipelines.md", "upstream", "upstream", lambda meta, rows: upstream_tests.table(rows)),
    ("docs/peers.md", "peers", "peers", lambda meta, rows: study_peers.best_table(rows)),
    (
        "docs/evaluation.md",
        "benchmark",
        "benchmark_evaluation",
        benchmark("method", "samples", "dimensions", "frechet", "pictures_per_second", "peak_mib"),
    ),
    (
        "docs/rigid.md",
        "benchmark",
        "benchmark_rigid",
        benchmark("draws", "speedup", "pictures_per_second", "peak_mib", "peak_mib_of_eight_times_the_pictures"),
    ),
)


def main() -> None:
    for document, mark, result, table in TABLES:
        print(replace_table(ROOT / document, mark, table(*read_report(ROOT / f"docs/results/{result}.json"))))


if __name__ == "__main__":
    main()
