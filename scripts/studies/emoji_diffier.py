"""DiffIER against plain guidance at equal evaluations, on the emoji checkpoint: docs/results/emoji-diffier.json.

N steps with one iteration cost 2 N - 1 evaluations, or N with `reuse`: each row stands next to the same guidance
without DiffIER in as many evaluations, and so in more steps. RAAG has the settings that emoji_raag fitted. Seeds and
captions are the same. Half an hour on one quiet core, a minute on a GPU:

    python -m scripts.studies.emoji_diffier
"""

from collections.abc import Sequence

import numpy as np

from diffusion_guidance.evaluation import markdown_table, read_report
from diffusion_guidance.evaluation.metrics.estimate import mean_estimate
from diffusion_guidance.evaluation.store import ChunkStore
from diffusion_guidance.pipelines import load_pipeline
from scripts.studies.emoji_raag import SAMPLES, drawn_rows
from scripts.studies.study import DTYPE, RESULTS, Report, Run, Study, Table


WEIGHTS = (2.0, 3.0, 5.0)
BUDGETS = (9, 19)  # evaluations
ITERATED = ({"step_size": 0.5, "reuse": False}, {"step_size": 0.5, "reuse": True})
SETTINGS = ("weight", "w_max", "alpha")


def table(fitted: Sequence[dict]) -> list[dict]:
    """What distinguishes the rows, `fitted` being those of RAAG; of each budget those without DiffIER first."""
    plain = [{"method": "cfg", "weight": weight} for weight in WEIGHTS]
    plain += [{"method": "raag"} | {name: row[name] for name in ("w_max", "alpha", "fitted_for")} for row in fitted]
    rows = []
    for budget in BUDGETS:
        rows += [row | {"steps": budget} for row in plain]
        for settings in ITERATED:
            steps = budget if settings["reuse"] else (budget + 1) // 2
            rows += [row | {"method": f"{row['method']}+diffier", **settings, "steps": steps} for row in plain]
    return rows


def with_gains(rows: Sequence[dict], stores: Sequence[ChunkStore]) -> list[dict]:
    """Rows with DiffIER and their alignment minus that of others in as many evaluations, on the same seeds: `gain` over
    the same guidance without it, `gain_to_best` over CFG at its best weight (of these images: it favours CFG a little).
    """
    right = [store.array("alignment").astype(np.float32) for store in stores]
    result = []
    for row, ours in zip(rows, right, strict=True):
        peers = [i for i, one in enumerate(rows) if "step_size" not in one and one["nfe"] == row["nfe"]]
        same = [i for i in peers if all(rows[i].get(name) == row.get(name) for name in SETTINGS)]
        best = sorted((i for i in peers if rows[i]["method"] == "cfg"), key=lambda i: -rows[i]["alignment"])[:1]
        found = {}
        if "step_size" in row:
            for name, others in (("gain", same), ("gain_to_best", best)):
                for other in others:
                    found |= mean_estimate(name, ours - right[other]).as_row()
        result.append(row | found)
    return result


def document(meta: dict, rows: list[dict]) -> str:
    """The whole table, under what it was measured with."""
    facts = f"{meta['samples']} images a row, seeds {meta['seeds']}, {meta['dtype']}; one iteration.\n\n"
    columns = ["method", "weight", "w_max", "alpha", "step_size", "reuse", "steps", "nfe", "effective_weight"]
    return facts + markdown_table(rows, [*columns, "alignment", "gain", "gain_to_best", "frechet"], digits=3)


def measure(run: Run) -> tuple[dict, list[dict]]:
    pipe = load_pipeline(str(run.assets / "emoji"), DTYPE["emoji"])
    _, known = read_report(RESULTS / "emoji-raag.json")
    fitted = {row["fitted_for"]: row for row in known if "fitted_for" in row}
    facts, rows, stores = drawn_rows(run, pipe, table(list(fitted.values())))
    return facts | {"iterations": 1}, with_gains(rows, stores)


STUDY = Study(
    __doc__,
    (Report("emoji-diffier", measure, (Table("docs/emoji.md", "diffier", "emoji-diffier", document),)),),
    samples=str(SAMPLES),
)

if __name__ == "__main__":
    STUDY.main()
