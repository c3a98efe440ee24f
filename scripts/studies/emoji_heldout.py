"""How well the emoji checkpoint draws, at its best setting of emoji_raag: docs/results/emoji-heldout.json.

Two tables. Distances on lite0's features of 500 drawings, of the autoencoder's reconstructions of them, and of what the
checkpoint draws for their captions, to all other drawings. Then alignment, by style, of pairs of style and name that
were held out of the training, and of the pairs of the same names that were not; with chance, which is the share of
images that would be right for the caption of another image of their row. After emoji_raag, ten minutes on one core:

    python -m scripts.studies.emoji_heldout
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from diffusion_guidance.evaluation import describe_run, load_extractor, markdown_table, read_report, write_report
from diffusion_guidance.evaluation.metrics.estimate import mean_estimate
from diffusion_guidance.evaluation.metrics.frechet import PARTS, frechet_estimate
from diffusion_guidance.evaluation.metrics.kernels import kid_estimate
from diffusion_guidance.evaluation.metrics.moments import Moments
from diffusion_guidance.evaluation.sources import Reference, read_statistics
from diffusion_guidance.evaluation.study import row_name
from diffusion_guidance.evaluation.summary import estimates_row
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.emoji import EmojiImages
from diffusion_guidance.worlds.emoji_judge import EmojiJudge
from diffusion_guidance.worlds.emoji_measure import FEATURES
from scripts.studies.emoji_raag import draw
from scripts.training.emoji_images import CACHE
from scripts.training.emoji_judge import reconstructed


SETTING = ("method", "weight", "w_max", "alpha", "fitted_for", "steps")


def distances(name: str, features: torch.Tensor, reference: Reference) -> dict:
    """A row of the first table, for features (N, D)."""
    frechet = frechet_estimate([Moments.of(part) for part in features.tensor_split(PARTS)], reference)
    kid = kid_estimate(features.numpy(), reference.features)
    return {"set": name, "samples": len(features), **estimates_row([frechet, kid])}


@torch.inference_mode()
def alignment(judge: EmojiJudge, name: str, images: torch.Tensor, captions: Sequence[str]) -> list[dict]:
    """Rows of the second table: all, then each style, for images (N, 3, 64, 64) uint8 drawn for `captions`."""
    parts = [torch.stack([one.argmax(-1) for one in judge(some.float() / 255)], 1) for some in images.split(250)]
    read, asked = torch.cat(parts), judge.labels(captions)
    rows = []
    for style in ("all", *dict.fromkeys(caption.split()[0] for caption in sorted(captions))):
        index = torch.tensor([style in ("all", caption.split()[0]) for caption in captions])
        right = read[index] == asked[index]
        values = {"name": right[:, 0], "style": right[:, 1], "alignment": right.all(1)}
        found = estimates_row([mean_estimate(key, value) for key, value in values.items()])
        chance = (read[index][:, None, 0] == asked[index][None, :, 0]).float().mean().item()
        rows.append({"pairs": name, "in_style": style, "samples": len(right), **found, "name_chance": chance})
    return rows


def document(meta: dict, rows: list[dict]) -> str:
    """Both tables, under what was measured."""
    setting = ", ".join(f"{name} {value}" for name, value in meta["setting"].items())
    first = markdown_table([row for row in rows if "set" in row], ["set", "samples", "frechet", "kid"], digits=3)
    columns = ["pairs", "in_style", "samples", "alignment", "name", "name_chance", "style"]
    second = markdown_table([row for row in rows if "pairs" in row], columns, digits=3)
    return f"Setting: {setting}; {meta['dtype']}.\n\n{first}\n{second}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=CACHE, help="rendered by scripts.training.emoji_images")
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--raag", type=Path, default=Path("docs/results/emoji-raag.json"))
    parser.add_argument("--work", type=Path, default=Path("out/study-emoji"), help="what is drawn, of emoji_raag too")
    parser.add_argument("--out", type=Path, default=Path("docs/results/emoji-heldout.json"))
    args = parser.parse_args()
    meta, rows = read_report(args.raag)
    best = max(rows, key=lambda row: row["alignment"])
    setting = {name: best[name] for name in SETTING if name in best}
    samples, folder = meta["samples"], args.work / f"{meta['samples']}-{meta['dtype']}"
    pipe, lite0 = load_pipeline(str(args.assets / "emoji"), meta["dtype"]), load_extractor("lite0")
    judge = EmojiJudge.from_pretrained(args.assets / "emoji-judge").eval()
    captions, held_out = judge.config.captions, judge.config.held_out

    drawings = EmojiImages.load(args.images)
    place = {caption: i for i, caption in enumerate(drawings.captions)}
    real = drawings.images[[place[caption] for caption in captions[:samples]]]
    vae = load_pipeline(str(args.assets / "emoji")).vae
    again = (reconstructed(vae, real) * 255).round().to(torch.uint8)
    drawn = torch.from_numpy(draw(folder / row_name(setting), pipe, captions, setting, samples).array("images"))
    reference = Reference.of(read_statistics(args.assets / "emoji-judge" / FEATURES).features[samples:])
    rows = []
    for name, images in (("drawings", real), ("reconstructed", again), ("checkpoint", drawn)):
        features = torch.cat([lite0(some.float() / 255)["features"] for some in images.split(50)])
        rows.append(distances(name, features, reference))

    names = {caption.split(" ", 1)[1] for caption in held_out}
    known = [caption for caption in captions if caption.split(" ", 1)[1] in names]
    for name, asked, draws in (("held out", held_out, 5), ("known", known, 2)):
        one = folder / f"{name.replace(' ', '-')}-{row_name(setting)}"
        images = draw(one, pipe, asked, setting, draws * len(asked), f"emoji world, {name}").array("images")
        rows += alignment(judge, name, torch.from_numpy(images), [*asked] * draws)
    rows += alignment(judge, "held out, the drawings", drawings.images[[place[one] for one in held_out]], held_out)
    facts = {"seeds": "from 0 in each row", "checkpoint": "assets/emoji", "dtype": meta["dtype"], "setting": setting}
    write_report(args.out, describe_run(**facts), rows)


if __name__ == "__main__":
    main()
