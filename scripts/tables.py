"""Make the tables of README.md and docs/raag.md from docs/results/*.json, so that no figure is typed."""

from pathlib import Path

from study_raag import dominated

from guidance.evaluation.report import markdown_table, read_report, replace_table


ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ["method", "weight", "w_max", "alpha", "steps", "alignment", "frechet"]


def best_alternative(slow: dict, rows: list[dict]) -> dict | None:
    """The RAAG row of five steps that dominates `slow` with the smallest Frechet distance."""
    fast = [row for row in rows if row["method"] == "raag" and row["steps"] == 5]
    better = [row for row in fast if row["alignment"] >= slow["alignment"] and row["frechet"] <= slow["frechet"]]
    return min(better, key=lambda row: row["frechet"], default=None)


def comparison(rows: list[dict]) -> str:
    """CFG in 30 steps, each row with the RAAG row of 5 steps that beats it in both figures."""
    lines = []
    for slow in (row for row in rows if row["method"] == "cfg" and row["steps"] == 30):
        fast = best_alternative(slow, rows) or {}
        plain = {name: slow[name] for name in ("weight", "alignment", "frechet")}  # without intervals: it is wide
        lines.append(plain | {f"raag_{name}": fast.get(name) for name in ("w_max", "alpha", "alignment", "frechet")})
    headings = {
        "weight": "CFG weight, 30 steps",
        "alignment": "alignment",
        "frechet": "Frechet distance",
        "raag_w_max": "better: RAAG w_max, 5 steps",
        "raag_alpha": "alpha",
        "raag_alignment": "alignment",
        "raag_frechet": "Frechet distance",
    }
    beaten, of = dominated(rows, 5, 30)
    same, of_same = dominated(rows, 5, 5)
    return markdown_table(lines, headings, digits=3) + (
        f"\nRAAG in 5 steps is better in both figures than {beaten} of {of} rows of CFG in 30 steps, and than {same} "
        f"of {of_same} rows of CFG in 5 steps.\n"
    )


def main() -> None:
    meta, rows = read_report(ROOT / "docs/results/raag.json")
    print(replace_table(ROOT / "README.md", "raag", comparison(rows)))
    facts = f"{meta['samples']} pictures a row, seeds {meta['seeds']}, {meta['dtype']}.\n\n"
    print(replace_table(ROOT / "docs/raag.md", "raag", facts + markdown_table(rows, COLUMNS, digits=3)))


if __name__ == "__main__":
    main()
