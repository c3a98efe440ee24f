"""What scripts/studies/diffier.py measures: the rows of a world, their curves, and what each row is compared with."""

from collections.abc import Mapping, Sequence


WEIGHTS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
RAAG_WEIGHTS = (1.5, 2.0, 3.0, 4.0, 6.0, 8.0)  # w_max; at 1 and below it is plain guidance
RAAG_ALPHA = 2.0
EXPENSIVE = 40  # evaluations from which only these weights are measured, last, and without reuse
EXPENSIVE_WEIGHTS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0)
BUDGETS = (10, 5, 20, 40)  # network evaluations, the most telling first
#: In addition to the default of one iteration with step size 0.5, at these weights and the first budget.
VARIED_WEIGHTS = (1.0, 2.0, 4.0)
VARIED = (
    {"step_size": 0.25},
    {"step_size": 1.0},
    {"iterations": 2, "step_size": 0.3},
    {"objective": "renoise", "step_size": 0.2},
    {"objective": "renoise", "step_size": 0.5},
    {"objective": "renoise", "step_size": 1.0},
    {"reuse": True, "step_size": 0.25},
    {"reuse": True, "step_size": 1.0},
)
DEFAULT = {"iterations": 1, "step_size": 0.5, "objective": "pair", "reuse": False}
#: The settings of DiffIER that are measured at every weight and budget.
KINDS = {"": {}, ", renoise": {"objective": "renoise", "step_size": 0.8}, ", reuse": {"reuse": True}}
#: What curves are compared at -> the field with a row's difference to the same guidance without DiffIER.
DIFFERENCE = {"budget": "difference", "steps": "difference_at_equal_steps"}
#: What distinguishes the rows.
FIELDS = ("method", "weight", "budget", "steps", *DEFAULT)


def steps_of(budget: int, iterations: int = 0, reuse: bool = False) -> int:
    """The most steps that cost at most `budget` evaluations: N + K (N - 1) of them, or 1 + K (N - 1) with reuse."""
    if iterations == 0:
        return budget
    return 1 + (budget - 1) // iterations if reuse else (budget + iterations) // (iterations + 1)


def row(method: str, weight: float, budget: int, **settings) -> dict:
    """A row's `FIELDS`."""
    given = {"method": method, "weight": weight, "budget": budget}
    if "diffier" not in method:
        return given | {"steps": budget}
    settings = DEFAULT | settings
    return given | {"steps": steps_of(budget, settings["iterations"], settings["reuse"])} | settings


def table() -> list[dict]:
    """All rows of a world, the most telling first."""
    rows = []
    cheap = [budget for budget in BUDGETS if budget < EXPENSIVE]
    for budget in cheap:
        for method, settings in (("cfg", {}), *(("diffier", settings) for settings in KINDS.values())):
            rows += [row(method, weight, budget, **settings) for weight in WEIGHTS]
    kinds = [settings for settings in KINDS.values() if "reuse" not in settings]
    for budget in cheap[:2]:
        for method, settings in (("raag", {}), *(("raag+diffier", settings) for settings in kinds)):
            rows += [row(method, weight, budget, **settings) for weight in RAAG_WEIGHTS]
    rows += [row("diffier", weight, BUDGETS[0], **varied) for varied in VARIED for weight in VARIED_WEIGHTS]
    for budget in (budget for budget in BUDGETS if budget >= EXPENSIVE):
        for method, settings in (("cfg", {}), *(("diffier", settings) for settings in kinds)):
            rows += [row(method, weight, budget, **settings) for weight in EXPENSIVE_WEIGHTS]
    return rows


def curve(given: Mapping) -> str:
    """The name of the curve that a row belongs to, or "" for one of the varied settings."""
    if "diffier" not in given["method"]:
        return given["method"]
    settings = {name: given[name] for name in DEFAULT}
    return next((given["method"] + kind for kind, own in KINDS.items() if settings == DEFAULT | own), "")


def same_without(given: Mapping, rows: Sequence[Mapping]) -> list[tuple[str, Mapping]]:
    """(field, row) of what a row with DiffIER is compared with: the same without it, at equal evaluations and steps."""
    if "diffier" not in given["method"]:
        return []
    plain = {"diffier": "cfg", "raag+diffier": "raag"}[given["method"]]
    found = [(DIFFERENCE[equal], row(plain, given["weight"], given[equal])) for equal in DIFFERENCE]
    return [(field, other) for field, other in found if other in rows]


def others(given: Mapping, rows: Sequence[Mapping]) -> list[tuple[str, Mapping]]:
    """(field, row) of what one of the best rows is compared with: CFG, and the parts of a combination, each alone."""
    best = {curve(each): each for each in rows if each["budget"] == given["budget"]}
    name = curve(given)
    words = {"cfg": "cfg", "raag": "raag", "diffier": name.removeprefix("raag+")} if "+" in name else {"cfg": "cfg"}
    return [(f"difference_to_{word}", best[other]) for word, other in words.items() if other != name]
