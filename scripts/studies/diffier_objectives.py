"""Which objective of DiffIER lowers the error, at what cost, and which widens the range of good weights.

Every row has as many network evaluations as plain guidance of its budget, on the same seeds. A backward pass does not
count, so `gradient` is also measured with it counted as two evaluations, and every kind is timed next to plain
guidance. Two minutes a world on a GPU; on two cores half an hour for digits and some hours for shapes:

    python -m scripts.studies.diffier_objectives
    python -m scripts.studies.diffier_objectives --worlds digits --samples 100 --only budget=10 --out out/quick.json
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from diffusion_guidance import Trace
from diffusion_guidance.evaluation import markdown_table
from diffusion_guidance.evaluation.run import pipeline_draw
from scripts.benchmarks.timing import interleaved, machine, ratio
from scripts.studies.diffier import guidance, measure_world
from scripts.studies.diffier_report import better_and_worse, range_text, spread
from scripts.studies.study import DTYPE, Report, Run, Study, Table, World, load_world, of_rows, span


SAMPLES = 1000
WEIGHTS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
BUDGETS = (10, 20)
COMPARED_AT = (1.0, 2.0, 4.0)  # weights at which errors are compared in equal steps, and settings are varied
TIMED, ROUNDS = 2.0, 3  # the weight, and the rounds after a warm-up
IMAGES = 125  # of a timed call
PLAIN = "CFG"
_WINDOW = {"objective": "manifold", "step_size": 1.0, "stop": 0.4}  # the paper's settings, in about its steps
_GRADIENT = {"objective": "gradient", "iterations": 1}
#: The settings of DiffIER that are measured at every weight and budget.
KINDS: Mapping[str, Mapping] = {
    PLAIN: {},
    "pair": {"objective": "pair", "iterations": 1, "step_size": 0.5},
    "renoise": {"objective": "renoise", "iterations": 1, "step_size": 0.8},
    "manifold": _WINDOW | {"iterations": 1},
    "manifold, 3 iterations": _WINDOW | {"iterations": 3},
    "gradient": _GRADIENT | {"step_size": 0.1},
    "gradient, backward counted": _GRADIENT | {"step_size": 0.1, "backward": 2},
}
VARIED = tuple(
    {"objective": "gradient", "iterations": count, "step_size": size}
    for count, size in ((1, 0.05), (1, 0.25), (2, 0.1))
)


def cost(steps: int, settings: Mapping) -> int:
    """Evaluations of so many steps; those of a backward pass too, where `settings` has their number."""
    if not settings:
        return steps
    active = min(int(settings.get("stop", 1.0) * steps), steps - 1)
    each = 2 if settings["objective"] == "manifold" else 1 + settings.get("backward", 0)
    return steps + each * settings["iterations"] * active


def row(kind: str, weight: float, budget: int, settings: Mapping) -> dict:
    """What distinguishes a row, with the most steps that cost at most `budget` evaluations."""
    steps = max(count for count in range(1, budget + 1) if cost(count, settings) <= budget)
    method = "diffier" if settings else "cfg"
    return {"kind": kind, "method": method, "weight": weight, "budget": budget, "steps": steps, **settings}


def table() -> list[dict]:
    """All rows of a world: every kind, then plain guidance in the steps of the others, then further settings."""
    rows = [row(kind, weight, budget, KINDS[kind]) for budget in BUDGETS for kind in KINDS for weight in WEIGHTS]
    others = sorted({each["steps"] for each in rows} - set(BUDGETS))
    rows += [row(PLAIN, weight, steps, {}) for steps in others for weight in COMPARED_AT]
    return rows + [row("varied", weight, BUDGETS[0], settings) for settings in VARIED for weight in COMPARED_AT]


def without(given: Mapping, rows: Sequence[Mapping]) -> list[tuple[str, Mapping]]:
    """(field, row) of plain guidance at the weight and in the evaluations of a row with DiffIER."""
    plain = row(PLAIN, given["weight"], given["budget"], {})
    return [("difference", plain)] if given["method"] == "diffier" and plain in rows else []


def times(world: World, rows: Sequence[Mapping]) -> dict[tuple[str, int], dict]:
    """(kind, budget) -> `time_ratio` to plain guidance of this budget, interleaved, and its quartiles."""
    found = {}
    for budget in BUDGETS:
        timed = {each["kind"]: each for each in rows if (each["weight"], each["budget"]) == (TIMED, budget)}
        if PLAIN not in timed or len(timed) == 1:
            continue
        ways = {name: drawing(world, each) for name, each in timed.items() if name in KINDS}
        taken = interleaved(ways, ROUNDS)
        found |= {(name, budget): ratio("time_ratio", taken[name], taken[PLAIN]) for name in ways}
    return found


def drawing(world: World, given: Mapping) -> Callable[[], object]:
    call = {"guidance_scale": 2.0, "num_inference_steps": given["steps"], **world.subject.call}
    callbacks = guidance(given, Trace())[:-1]  # without the observer
    return partial(pipeline_draw(world.pipe, world.subject.condition, callbacks, **call), range(IMAGES))


def measure(run: Run) -> tuple[dict, list[dict]]:
    count, rows = run.samples or SAMPLES, []
    for name in run.worlds:
        world, wanted = load_world(name, run.assets), run.wanted(table())
        found = measure_world(world, wanted, run.work / f"{name}-{count}", range(count), without)
        taken = times(world, wanted)
        rows += [with_equal_steps(each, found) | taken.get((each["kind"], each["budget"]), {}) for each in found]
    facts = {"samples": count, "seeds": span(count), "dtype": DTYPE, "timed_images": IMAGES, "rounds": ROUNDS}
    return facts | {"machine": machine()}, rows


def with_equal_steps(given: Mapping, rows: Sequence[Mapping]) -> dict:
    """`given` and `error_ratio`: its accumulated error to that of plain guidance at its weight in as many steps."""
    same = ("cfg", given["weight"], given["steps"])
    plain = next((each for each in rows if (each["method"], each["weight"], each["steps"]) == same), None)
    known = given["method"] == "diffier" and plain is not None
    return dict(given) | ({"error_ratio": given["error"] / plain["error"]} if known and plain else {})


def range_table(rows: Sequence[Mapping]) -> str:
    """Each kind at its best weight, with its range of good weights, and that range over the one of plain guidance."""
    lines = []
    for world, budget in dict.fromkeys((each["world"], each["budget"]) for each in rows):
        parts = {}
        for each in rows:
            if (each["world"], each["budget"]) == (world, budget) and each["kind"] in KINDS:
                parts.setdefault(each["kind"], []).append(each)
        if PLAIN not in parts or len(parts) == 1:
            continue
        plain = spread(parts[PLAIN])["width"]
        for kind, part in parts.items():
            ends, best = spread(part), min(part, key=lambda each: each["frechet"])
            line = {"world": world, "evaluations": budget, "objective": kind}
            line |= {name: best.get(name) for name in ("steps", "nfe", "time_ratio", "weight", "frechet", "alignment")}
            line["within 20 %, minus bias"] = range_text(ends)
            line["width to CFG's"] = ends["width"] / plain if plain else None
            lines.append(line | {"better, worse than CFG": better_and_worse(part, "difference")})
    return markdown_table(lines, list(lines[0]), digits=3) if lines else ""


def error_table(rows: Sequence[Mapping]) -> str:
    """Accumulated errors at a few weights, next to plain guidance in as many evaluations and in as many steps."""
    part = [each for each in rows if each["weight"] in COMPARED_AT and each["budget"] in BUDGETS]
    part.sort(key=lambda each: (each["world"], each["budget"], each["weight"]))
    columns = ["world", "budget", "weight", "kind", "iterations", "step_size", "steps", "nfe"]
    return markdown_table(part, [*columns, "error", "error_ratio", "cond_error", "alignment", "frechet"], digits=3)


DOCUMENT = "docs/diffier.md"
STUDY = Study(
    __doc__,
    (
        Report(
            "diffier-objectives",
            measure,
            (
                Table(DOCUMENT, "diffier objectives", "diffier-objectives", of_rows(range_table)),
                Table(DOCUMENT, "diffier errors", "diffier-objectives", of_rows(error_table)),
            ),
        ),
    ),
    samples=str(SAMPLES),
    worlds=("digits", "shapes"),
)

if __name__ == "__main__":
    STUDY.main()
