"""Every way of guidance on the same seeds in one run, ours and diffusers' own: docs/results/peers.json and its plots.

In each world all have the same number of network evaluations (one gives both predictions), so DiffIER takes half the
steps; only what compares with a changed network has as many steps, and an evaluation more in each (`nfe` tells). A
guider of diffusers has its own defaults beside the weight, but for adaptive projection (its paper's constants, since
the default is plain CFG). Finished rows are kept in --work, so a killed study goes on where it stopped. About an hour
on two cores:

    python -m scripts.studies.peers
    python -m scripts.studies.peers --worlds digits --samples 100 --out out/quick.json     # a quick look
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from diffusers import guiders
from diffusers.hooks import LayerSkipConfig
from diffusers.hooks.smoothed_energy_guidance_utils import SmoothedEnergyGuidanceConfig

from diffusion_guidance import CFG, RAAG, ClassifierGuidance, DiffIER, GuidanceInterval, GuiderCallback, Strength
from diffusion_guidance.evaluation import curve_plot, describe_run, markdown_table, write_report
from diffusion_guidance.evaluation.metrics.sensitivity import sensitivity
from diffusion_guidance.evaluation.study import study
from diffusion_guidance.worlds import DigitsClassifier
from diffusion_guidance.worlds.subjects import WORLDS, load_subject
from scripts.studies.diffier import DTYPE, load_world
from scripts.studies.diffier_rows import KINDS, RAAG_ALPHA, steps_of


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


def measure_world(world: str, assets: Path, work: Path, samples: int) -> list[dict]:
    pipe, subject, known = load_world(world, assets), load_subject(world, assets), methods(world, assets)

    def setting(row: dict):
        # The scale only switches the unconditional pass on.
        return pipe, known[row["method"]](row["weight"]), {"guidance_scale": 2.0, "num_inference_steps": row["steps"]}

    rows = study(table(world, assets), setting, work / f"{world}-{samples}", subject, range(samples), batch_size=BATCH)
    return [{"world": world, **_as_alignment(row)} for row in rows]


def _as_alignment(row: dict) -> dict:
    """The worlds' scores under one name: the share of pictures that show what was asked for."""
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
        f"{world.capitalize()}, {part[0]['samples']} pictures a row:\n\n" + markdown_table(part, columns, digits=3)
        for world, part in parts.items()
    )


def plot(path: Path, rows: Sequence[dict]) -> Path:
    """Frechet distance over the weight, a picture a world; the best six methods, and CFG."""
    names = [line["method"] for line in best(rows)][:6]
    return curve_plot(path, [row for row in rows if row["method"] in {*names, "CFG"}])


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--worlds", nargs="+", choices=WORLDS, default=["digits", "shapes"])
    parser.add_argument("--samples", type=int, default=1000, help="pictures a row (default 1000)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/peers.json"))
    parser.add_argument("--work", type=Path, default=Path("out/study-peers"), help="finished rows")
    args = parser.parse_args(arguments)

    rows = []
    for world in args.worlds:
        part = measure_world(world, args.assets, args.work, args.samples)
        print(plot(args.out.with_name(f"{args.out.stem}-{world}.png"), part))
        rows += part
    meta = describe_run(samples=args.samples, seeds=f"0-{args.samples - 1}", dtype=DTYPE, raag_alpha=RAAG_ALPHA)
    print(write_report(args.out, meta, rows), best_table(rows), sep="\n\n")


if __name__ == "__main__":
    main()
