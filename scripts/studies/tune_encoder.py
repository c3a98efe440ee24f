"""Choose how the encoder of scripts/training/encoder.py is learnt: docs/results/rigid-tuning.json.

Each way is learnt on the training photographs, and the detector is measured on the validation photographs alone, at
every noise level and with both methods. No test photograph is looked at. About four minutes on one core:

    python -m scripts.studies.tune_encoder
"""

import argparse
import itertools
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from diffusion_guidance.detection import Encoder
from diffusion_guidance.detection.rigid import METHODS, Detector
from diffusion_guidance.evaluation.report import describe_run, markdown_table, write_report
from diffusion_guidance.worlds.photographs import load_patches
from scripts.studies.rigid import DRAWS, NOISES, mean_auroc, pictures
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


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("docs/results/rigid-tuning.json"))
    parser.add_argument("--work", type=Path, default=Path("out/study-rigid"), help="pictures, as of study_rigid.py")
    args = parser.parse_args(argv)

    training, sets, rows = load_patches("train")[0], pictures("photographs", "validation", args), []
    for way in tqdm(args.ways):
        network = learn(training, WAYS[way])
        encoder = Encoder(way, network, network.transform())
        for noise, method in itertools.product(NOISES, METHODS):
            detector = Detector(encoder, noise, DRAWS, method)
            found = mean_auroc({name: detector.score(part) for name, part in sets.items()})
            rows.append({"way": way, **asdict(WAYS[way]), "noise": noise, "method": method, **found})
    write_report(args.out, describe_run(samples=args.samples, split="validation", draws=DRAWS), rows)
    print(document(rows))


if __name__ == "__main__":
    main()
