"""DiffIER's objectives against plain guidance at equal evaluations, on the emoji checkpoint: docs/results/
emoji-diffier.json.

N steps with one iteration cost 2 N - 1 evaluations, or N with `reuse`: each row stands next to the same guidance
without DiffIER in as many evaluations, and so in more steps. RAAG has the settings that emoji_raag fitted. Seeds and
captions are the same. An hour and a half on one quiet core, some minutes on a GPU:

    python -m scripts.studies.emoji_diffier
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from diffusers import DiffusionPipeline

from diffusion_guidance.evaluation import markdown_table, read_report
from diffusion_guidance.evaluation.metrics.estimate import mean_estimate
from diffusion_guidance.evaluation.metrics.sensitivity import sensitivity
from diffusion_guidance.evaluation.run import pipeline_draw
from diffusion_guidance.evaluation.store import ChunkStore
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.emoji_judge import EmojiJudge
from scripts.benchmarks.timing import interleaved, machine, ratio
from scripts.studies.diffier_objectives import KINDS, PLAIN, cost
from scripts.studies.diffier_report import range_text
from scripts.studies.diffier_weights import weights_table
from scripts.studies.emoji_raag import CALL, SAMPLES, callbacks, drawn_rows
from scripts.studies.study import DTYPE, RESULTS, Report, Run, Study, Table


WEIGHTS = (1.5, 2.0, 3.0, 5.0, 7.0)
BUDGETS = (9, 19)  # evaluations
ITERATED = {kind: KINDS[kind] for kind in ("pair", "renoise", "manifold", "gradient")}
ITERATED |= {"pair, reuse": ITERATED["pair"] | {"reuse": True}}
WITH_RAAG = ("pair", "pair, reuse")
TIMED, ROUNDS, IMAGES = 3.0, 3, 64  # the weight, the rounds after a warm-up, the images of a timed call
SETTINGS = ("weight", "w_max", "alpha")


def table(fitted: Sequence[dict]) -> list[dict]:
    """What distinguishes the rows, `fitted` being those of RAAG; of each budget those without DiffIER first."""
    cfg = [{"method": "cfg", "weight": weight} for weight in WEIGHTS]
    raag = [{"method": "raag"} | {name: row[name] for name in ("w_max", "alpha", "fitted_for")} for row in fitted]
    rows = []
    for budget in BUDGETS:
        rows += [row | {"kind": PLAIN, "steps": budget} for row in (*cfg, *raag)]
        for kind, settings in ITERATED.items():
            reuse = settings.get("reuse")
            steps = budget if reuse else max(n for n in range(1, budget + 1) if cost(n, settings) <= budget)
            plain = (*cfg, *raag) if kind in WITH_RAAG else cfg
            rows += [
                row | {"method": f"{row['method']}+diffier", "kind": kind, **settings, "steps": steps} for row in plain
            ]
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


def times(pipe: DiffusionPipeline, captions: Sequence[str], rows: Sequence[Mapping]) -> dict[tuple[str, int], dict]:
    """(kind, evaluations) -> `time_ratio` to plain guidance in as many evaluations, interleaved, and its quartiles."""
    found = {}
    for nfe in dict.fromkeys(row["nfe"] for row in rows):
        timed = {row["kind"]: row for row in rows if row["nfe"] == nfe and row.get("weight") == TIMED}
        if PLAIN in timed:
            taken = interleaved({kind: drawing(pipe, captions, row) for kind, row in timed.items()}, ROUNDS)
            found |= {(kind, nfe): ratio("time_ratio", taken[kind], taken[PLAIN]) for kind in timed}
    return found


def drawing(pipe: DiffusionPipeline, captions: Sequence[str], row: Mapping) -> Callable[[], object]:
    call = CALL | {"num_inference_steps": row["steps"]}
    return partial(pipeline_draw(pipe, captions.__getitem__, callbacks(row), **call), range(IMAGES))


def document(meta: dict, rows: list[dict]) -> str:
    """The whole table, under what it was measured with."""
    facts = f"{meta['samples']} images a row, seeds {meta['seeds']}, {meta['dtype']}; one iteration.\n\n"
    columns = ["method", "kind", "weight", "w_max", "alpha", "step_size", "steps", "nfe", "time_ratio", "error"]
    columns += ["effective_weight", "alignment", "gain", "gain_to_best", "frechet"]
    return facts + markdown_table(rows, columns, digits=3)


def ranges(meta: dict, rows: list[dict]) -> str:
    """Each kind at its best weight, and the weights at which it draws at most a fifth more images not as asked."""
    lines = []
    for nfe, kind in dict.fromkeys((row["nfe"], row["kind"]) for row in rows):
        part = [row for row in rows if (row["nfe"], row["kind"]) == (nfe, kind) and "weight" in row]
        ends = sensitivity([row | {"wrong": 1 - row["alignment"]} for row in part], y="wrong")
        best = next(row for row in part if row["weight"] == ends["at"])
        line = {"evaluations": nfe, "objective": kind, "time_ratio": best.get("time_ratio"), "weight": ends["at"]}
        line |= {name: best.get(name) for name in ("alignment", "gain_to_best")}
        lines.append(line | {"within 20 %": range_text(ends)})
    return markdown_table(lines, list(lines[0]), digits=3)


def measure(run: Run) -> tuple[dict, list[dict]]:
    pipe = load_pipeline(str(run.assets / "emoji"), DTYPE["emoji"])
    _, known = read_report(RESULTS / "emoji-raag.json")
    fitted = {row["fitted_for"]: row for row in known if "fitted_for" in row}
    facts, rows, stores = drawn_rows(run, pipe, table(list(fitted.values())), error=True)
    captions = EmojiJudge.load_config(run.assets / "emoji-judge")["captions"]
    taken = times(pipe, captions, rows)
    rows = [row | taken.get((row["kind"], row["nfe"]), {}) for row in with_gains(rows, stores)]
    return facts | {"iterations": 1, "timed_images": IMAGES, "rounds": ROUNDS, "machine": machine()}, rows


_TABLES = (
    Table("docs/emoji.md", "diffier ranges", "emoji-diffier", ranges),
    Table("docs/emoji.md", "diffier", "emoji-diffier", document),
    Table("docs/emoji.md", "diffier weights", "emoji-diffier", weights_table),
)
STUDY = Study(__doc__, (Report("emoji-diffier", measure, _TABLES),), samples=str(SAMPLES))

if __name__ == "__main__":
    STUDY.main()
