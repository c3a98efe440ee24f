"""RIGID without a foundation model: docs/results/rigid.json and its plot.

Real images against generated ones, through the encoder of scripts/training/encoder.py, through the same one with
random filters, and through a random vision transformer; and as controls real against real and generated against
generated. Both sides go through the same re-encoding or corruption. Each world's noise level and method are chosen on
images of the validation split, and the paper's own settings are shown next to them. About ten minutes on one core:

    python -m scripts.studies.rigid
    python -m scripts.studies.rigid --samples 24 --out out/quick.json     # a quick look
"""

import hashlib
import itertools
import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from diffusion_guidance.core.files import write_atomic
from diffusion_guidance.core.plots import canvas, write_plot
from diffusion_guidance.detection import Encoder, load_encoder, random_encoder
from diffusion_guidance.detection.cautions import READING
from diffusion_guidance.detection.corruptions import CORRUPTIONS, auroc, corrupt, detection_figures
from diffusion_guidance.detection.rigid import METHODS, Detector
from diffusion_guidance.evaluation.report import markdown_table
from diffusion_guidance.evaluation.summary import estimates_row
from diffusion_guidance.worlds.photographs import load_patches
from scripts.studies.rigid_sets import SAMPLES, Sets, image_sets
from scripts.studies.study import Report, Run, Study, Table, of_rows, span
from scripts.training.encoder import Learning, learn


WORLDS = ("photographs", "digits", "shapes")
NOISES = (0.02, 0.05, 0.1, 0.2)
DRAWS = 4  # of the chosen settings


def pairs(sets: Sets) -> list[tuple[str, str, bool, torch.Tensor, torch.Tensor]]:
    """(one side, other side, control, positions in each) for the names in `sets`; a control is two halves of a set."""
    real = torch.arange(len(sets["real"]))
    found = [("real", name, False, real, torch.arange(len(sets[name]))) for name in sets if name != "real"]
    # At random: digits stand in the order of their classes, so every other one would be of other classes.
    first, second = torch.randperm(len(real), generator=torch.Generator().manual_seed(0)).tensor_split(2)
    return found + [(name, name, True, first, second) for name in sets]


def encoders(assets: Path) -> dict[str, Encoder]:
    untrained = learn(load_patches("train")[0], Learning(rounds=0))
    return {
        "trained": load_encoder(f"local:{assets / 'patch-encoder'}"),
        "untrained": Encoder("random filters", untrained, untrained.transform()),
        "random": random_encoder("vit_tiny_patch16_224", seed=0, size=32, depth=2, patch_size=8),
    }


def scores(detector: Detector, world: str, split: str, corruption: str, run: Run) -> Sets:
    """name -> (N,) scores of every set of a world after a corruption; computed once, then kept."""
    key = detector.identity | {"world": world, "split": split, "corruption": corruption}
    key |= {"samples": run.samples or SAMPLES}
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    path = run.work / "scores" / f"{world}-{split}-{corruption.replace(' ', '-')}-{digest}.safetensors"
    if not path.exists():
        found = {
            name: detector.score(corrupt(part, corruption)) for name, part in image_sets(world, split, run).items()
        }
        write_atomic(path, lambda temporary: save_file(found, temporary))
    return load_file(path)


def choose(encoder: Encoder, world: str, run: Run) -> tuple[Detector, list[dict]]:
    """The detector with the best mean AUROC over the validation split's generated sets; and what all of them had."""
    detectors = [Detector(encoder, noise, DRAWS, method) for noise, method in itertools.product(NOISES, METHODS)]
    tried = []
    for detector in tqdm(detectors, desc=f"{encoder.name}: {world}", unit="setting"):
        found = mean_auroc(scores(detector, world, "validation", "none", run))
        tried.append({"noise": detector.noise, "method": detector.method, **found})
    best = max(range(len(tried)), key=lambda position: tried[position]["auroc"])
    return detectors[best], tried


def mean_auroc(found: Sets) -> dict:
    """`pairs`, the AUROC of each generated set's scores against those of "real"; and their mean, `auroc`."""
    values = {name: auroc(found["real"].numpy(), found[name].numpy()) for name in sorted(found) if name != "real"}
    return {"auroc": sum(values.values()) / len(values), "pairs": values}


def table(encoder: str, setting: str, detector: Detector, world: str, run: Run) -> list[dict]:
    """The rows of one detector on the test split of a world; controls without corruptions."""
    rows = []
    corruptions = [row["corruption"] for row in run.wanted([{"corruption": name} for name in CORRUPTIONS])]
    for corruption in tqdm(corruptions, desc=f"{encoder}, {setting}: {world}", unit="corruption"):
        kind, strength, _ = CORRUPTIONS[corruption]
        found = scores(detector, world, "test", corruption, run)
        for real, fake, control, first, second in pairs(found):
            if control and corruption != "none":
                continue
            row = {"encoder": encoder, "setting": setting, "noise": detector.noise, "draws": detector.draws}
            row |= {"method": detector.method, "real": f"{world}: {real}", "fake": f"{world}: {fake}"}
            row |= {"control": control, "corruption": corruption, "kind": kind, "strength": strength}
            sides = found[real][first], found[fake][second]
            rows.append(row | {"samples": sum(map(len, sides))} | estimates_row(detection_figures(*sides)))
    return rows


def markdown(rows: list[dict]) -> str:
    """The tables of docs/rigid.md: every pair and control without a corruption, then the chosen settings under all."""
    columns = ("encoder", "setting", "noise", "draws", "method", "real", "fake", "auroc", "average_precision", "fpr95")
    clean = [row for row in rows if row["corruption"] == "none"]
    text = "".join(
        f"{title}:\n\n{markdown_table([row for row in clean if row['control'] == control], columns, 3)}\n"
        for title, control in (("Real against generated", False), ("Controls, which should be 0.5", True))
    )
    shown = [row for row in rows if row["encoder"] == "trained" and row["setting"] == "chosen" and not row["control"]]
    lines = []
    for fake in dict.fromkeys(row["fake"] for row in shown):
        lines.append({"fake": fake} | {row["corruption"]: row["auroc"] for row in shown if row["fake"] == fake})
    return text + f"AUROC of the trained encoder:\n\n{markdown_table(lines, ('fake', *CORRUPTIONS), 2)}"


def plot(path: Path, rows: list[dict]) -> None:
    """AUROC of the trained encoder, chosen settings, over the corruptions: one line per pair, with intervals."""
    shown = [row for row in rows if row["encoder"] == "trained" and row["setting"] == "chosen" and not row["control"]]
    figure = canvas(9, 4.6)
    axes = figure.subplots()
    names = list(CORRUPTIONS)
    for number, fake in enumerate(dict.fromkeys(row["fake"] for row in shown)):
        part = [row for row in shown if row["fake"] == fake]
        places = [names.index(row["corruption"]) + 0.06 * (number - 2.5) for row in part]
        (line,) = axes.plot(places, [row["auroc"] for row in part], marker="o", markersize=4, label=fake)
        ends = zip(*(row["auroc_interval"] for row in part), strict=True)
        axes.vlines(places, *ends, color=line.get_color(), alpha=0.5)
    axes.axhline(0.5, color="0.6", linestyle=":")
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set(ylabel="AUROC", ylim=(0, 1.02), title="real against generated, both corrupted alike")
    axes.legend(frameon=False, ncols=3, fontsize=8)
    write_plot(path, figure)


def measure(run: Run) -> tuple[dict, list[dict]]:
    rows, validation, count = [], [], run.samples or SAMPLES
    if count < 4:
        raise SystemExit(f"--samples must be at least 4, got {count}")
    for (name, encoder), world in itertools.product(encoders(run.assets).items(), run.worlds):
        chosen, tried = choose(encoder, world, run)
        validation += [{"encoder": name, "world": world} | row for row in tried]
        for setting, detector in (("published", Detector.published(encoder)), ("chosen", chosen)):
            rows += table(name, setting, detector, world, run)
    facts = {"samples": count, "splits": "test; settings chosen on validation", "validation": validation}
    return facts | {"seeds": span(count), "reading": READING}, rows


STUDY = Study(
    __doc__,
    (Report("rigid", measure, (Table("docs/rigid.md", "rigid", "rigid", of_rows(markdown)),), {"": plot}),),
    samples=str(SAMPLES),
    worlds=WORLDS,
)

if __name__ == "__main__":
    STUDY.main()
