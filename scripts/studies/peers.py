"""Every way of guidance on the same seeds in one run, ours and diffusers' own: docs/results/peers.json and its plots.

In each world all have the same number of network evaluations (one gives both predictions), so DiffIER takes half the
steps; only what compares with a changed network has as many steps, and an evaluation more in each (`nfe` tells). A
guider of diffusers has its own defaults except for the weight, and for adaptive projection (its paper's constants,
since the default is plain CFG). About an hour on two cores:

    python -m scripts.studies.peers
    python -m scripts.studies.peers --worlds digits --samples 100 --out out/quick.json     # a quick look
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from diffusers import guiders
from diffusers.hooks import LayerSkipConfig
from diffusers.hooks.smoothed_energy_guidance_utils import SmoothedEnergyGuidanceConfig

from diffusion_guidance import CFG, RAAG, ClassifierGuidance, DiffIER, GuidanceInterval, GuiderCallback, Strength
from diffusion_guidance.evaluation import curve_plot, markdown_table
from diffusion_guidance.evaluation.metrics.sensitivity import sensitivity
from diffusion_guidance.evaluation.study import Setting, study
from diffusion_guidance.worlds import DigitsClassifier
from scripts.studies.diffier_rows import KINDS, RAAG_ALPHA, steps_of
from scripts.studies.study import DTYPE, Report, Run, Study, Table, load_world, of_rows, span


SAMPLES = 1000
WEIGHTS = {"digits": (1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0), "shapes": (2.0, 3.0, 5.0)}
BUDGET = {"digits": 20, "shapes": 10}  # network evaluations; the steps of what looks once a step
BATCH = 125
REDUCE = {"digits": KINDS[", renoise"], "shapes": KINDS[""]}  # the setting of DiffIER that suits the world's model
#: Blocks in the middle of the network; of a whole block of Stable Diffusion 3, diffusers skips the feed-forward only.
LAYERS = {"digits": {"indices": [1]}, "shapes": {"indices": [3], "skip_attention": False}}


def methods(world: str, assets: Path) -> dict[str, Callable[[float], list]]:
    """name -> the callbacks for a weight."""

    def guider(kind: type, **settings) -> Callable[[float], list]:
        return lambda weight: [GuiderCallback(kind(guidance_scale=weight, **settings))]

    layers, reduce = LayerSkipConfig(**LAYERS[world]), DiffIER(**REDUCE[world])
    found = {
        "CFG": lambda weight: [CFG(weight)],
        "CFG, rescaled": lambda weight: [CFG(weight, rescale=0.7)],
        "guidance interval": lambda weight: [CFG(weight), GuidanceInterval()],
        "CFG-Zero*": guider(guiders.ClassifierFreeZeroStarGuidance),
        "tangential CFG": guider(guiders.TangentialClassifierFreeGuidance),
        "APG": guider(guiders.AdaptiveProjectedGuidance, eta=0.0, adaptive_projected_guidance_momentum=-0.5),
        "autoguidance": guider(guiders.AutoGuidance, auto_guidance_config=layers),
        "skip layer": guider(guiders.SkipLayerGuidance, skip_layer_config=layers),
        "RAAG": lambda weight: [RAAG(weight, RAAG_ALPHA)],
        "CFG + DiffIER": lambda weight: [CFG(weight), reduce],
        "RAAG + DiffIER": lambda weight: [RAAG(weight, RAAG_ALPHA), reduce],
    }
    if world == "digits":
        scores = LayerSkipConfig([1], skip_attention=False, skip_attention_scores=True, skip_ff=False)
        found["perturbed attention"] = guider(
            guiders.PerturbedAttentionGuidance, perturbed_guidance_config=scores, perturbed_guidance_stop=1.0
        )
        found["smoothed energy"] = guider(
            guiders.SmoothedEnergyGuidance, seg_guidance_config=SmoothedEnergyGuidanceConfig([1])
        )
        judge = DigitsClassifier.from_pretrained(assets / "digits-classifier").eval()
        classifier = ClassifierGuidance(judge, Strength(scale=16.0), start=0.72, stop=0.84)
        found["CFG + EluCD"] = lambda weight: [CFG(weight), classifier]
        found["RAAG + EluCD"] = lambda weight: [RAAG(weight, RAAG_ALPHA), classifier]
    return found


def table(world: str, assets: Path) -> list[dict]:
    """What distinguishes the rows, method by method."""
    return [
        {"method": method, "weight": weight, "steps": steps_of(BUDGET[world], iterations=int("DiffIER" in method))}
        for method in methods(world, assets)
        for weight in WEIGHTS[world]
    ]


def measure(run: Run) -> tuple[dict, list[dict]]:
    count, rows = run.samples or SAMPLES, []
    for name in run.worlds:
        rows += [{"world": name, **_as_alignment(row)} for row in measure_world(name, run, count)]
    return {"samples": count, "seeds": span(count), "dtype": DTYPE, "raag_alpha": RAAG_ALPHA}, rows


def measure_world(name: str, run: Run, count: int) -> list[dict]:
    world, known = load_world(name, run.assets), methods(name, run.assets)

    def setting(row: dict) -> Setting:
        # The scale only switches the unconditional pass on.
        call = {"guidance_scale": 2.0, "num_inference_steps": row["steps"]}
        return Setting(world.pipe, known[row["method"]](row["weight"]), call, world.subject)

    rows = run.wanted(table(name, run.assets))
    return study(rows, setting, run.work / f"{name}-{count}", range(count), batch_size=BATCH)


def _as_alignment(row: dict) -> dict:
    """The worlds' scores under one name: the share of images that show what was asked for."""
    return {name.replace("accuracy", "alignment"): value for name, value in row.items()}


def best(rows: Sequence[dict]) -> list[dict]:
    """Each method of each world at its best weight, the best method first."""
    lines = []
    for world, method in dict.fromkeys((row["world"], row["method"]) for row in rows):
        part = [row for row in rows if (row["world"], row["method"]) == (world, method)]
        spread = sensitivity(part)
        line = dict(next(row for row in part if row["weight"] == spread["at"]))
        lines.append(line | {"within 20 %": f"{spread['low']:.2f} to {spread['high']:.2f}"})
    return sorted(lines, key=lambda line: (line["world"], line["frechet"]))


def best_table(rows: Sequence[dict]) -> str:
    """A table for each world, with its heading."""
    columns = ["method", "weight", "within 20 %", "steps", "nfe", "frechet", "alignment"]
    lines = best(rows)
    parts = {
        world: [line for line in lines if line["world"] == world] for world in dict.fromkeys(r["world"] for r in lines)
    }
    return "\n".join(
        f"{world.capitalize()}, {part[0]['samples']} images a row:\n\n" + markdown_table(part, columns, digits=3)
        for world, part in parts.items()
    )


def plot(world: str, path: Path, rows: Sequence[dict]) -> None:
    """Frechet distance over the weight; the best six methods of a world, and CFG. Nothing without rows of the world."""
    if part := [row for row in rows if row["world"] == world]:
        names = [line["method"] for line in best(part)][:6]
        curve_plot(path, [row for row in part if row["method"] in {*names, "CFG"}])


STUDY = Study(
    __doc__,
    (
        Report(
            "peers",
            measure,
            (Table("docs/peers.md", "peers", "peers", of_rows(best_table)),),
            {f"-{world}": partial(plot, world) for world in WEIGHTS},
        ),
    ),
    samples=str(SAMPLES),
    worlds=tuple(WEIGHTS),
)

if __name__ == "__main__":
    STUDY.main()
