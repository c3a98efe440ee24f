"""Choose the training settings of scripts/training/encoder.py: docs/results/rigid-tuning.json.

Each setting is trained on the training photographs, and the detector is measured on the validation photographs only, at
every noise level and with both methods. Test photographs are not used. About four minutes on one core:

    python -m scripts.studies.tune_encoder
"""

import itertools
from dataclasses import asdict, replace

from tqdm import tqdm

from diffusion_guidance.detection import Encoder
from diffusion_guidance.detection.rigid import METHODS, Detector
from diffusion_guidance.evaluation.report import markdown_table
from diffusion_guidance.worlds.photographs import load_patches
from scripts.studies.rigid import DRAWS, NOISES, mean_auroc
from scripts.studies.rigid_sets import SAMPLES, image_sets
from scripts.studies.study import Report, Run, Study, Table, of_rows
from scripts.training.encoder import Learning, learn


SIX = Learning(patch=6)  # what the others are compared with
WAYS = {
    "patch 6": SIX,
    "patch 6, threshold 0.5": replace(SIX, threshold=0.5),
    "patch 6, threshold 1": replace(SIX, threshold=1.0),
    "patch 6, threshold 2": replace(SIX, threshold=2.0),
    "patch 6, floor 0.1": replace(SIX, floor=0.1),
    "patch 6, 64 filters": replace(SIX, filters=64),
    "patch 4": Learning(),
    "patch 8": Learning(patch=8),
    "patch 6, random filters": replace(SIX, rounds=0),
}


def document(rows: list[dict]) -> str:
    """The best noise level and method of each way, as a table."""
    ways = dict.fromkeys(row["way"] for row in rows)
    best = [max((row for row in rows if row["way"] == way), key=lambda row: row["auroc"]) for way in ways]
    lines = [row | {"mean": row["auroc"]} | row["pairs"] for row in best]
    return markdown_table(lines, ("way", "noise", "method", "mean", *lines[0]["pairs"]), 3)


def measure(run: Run) -> tuple[dict, list[dict]]:
    training, sets, rows = load_patches("train")[0], image_sets("photographs", "validation", run), []
    for way in tqdm([row["way"] for row in run.wanted([{"way": way} for way in WAYS])], desc="training"):
        network = learn(training, WAYS[way])
        encoder = Encoder(way, network, network.transform())
        for noise, method in itertools.product(NOISES, METHODS):
            detector = Detector(encoder, noise, DRAWS, method)
            found = mean_auroc({name: detector.score(part) for name, part in sets.items()})
            rows.append({"way": way, **asdict(WAYS[way]), "noise": noise, "method": method, **found})
    return {"samples": run.samples or SAMPLES, "split": "validation", "draws": DRAWS}, rows


STUDY = Study(
    __doc__,
    (Report("rigid-tuning", measure, (Table("docs/rigid.md", "tuning", "rigid-tuning", of_rows(document)),)),),
    samples=str(SAMPLES),
)

if __name__ == "__main__":
    STUDY.main()
