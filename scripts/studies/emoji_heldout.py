"""How well the emoji checkpoint draws, at its best setting of emoji_raag: docs/results/emoji-heldout.json.

Two tables. Distances on lite0's features of 500 drawings, of the autoencoder's reconstructions of them, and of what the
checkpoint draws for their captions, to all other drawings. Then alignment, by style, of pairs of style and name that
were held out of the training, and of the pairs of the same names that were not; with chance, which is the share of
images that would be right for the caption of another image of their row. After emoji_raag, ten minutes on one core:

    python -m scripts.training.emoji_images FOLDER
    python -m scripts.studies.emoji_heldout --work out/study-emoji-raag
"""

from collections.abc import Sequence

import torch

from diffusion_guidance.evaluation import load_extractor, markdown_table, read_report
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
from scripts.studies.study import DTYPE, Report, Run, Study, Table
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


def measure(run: Run) -> tuple[dict, list[dict]]:
    meta, rows = read_report(run.out.with_name("emoji-raag.json"))
    best = max(rows, key=lambda row: row["alignment"])
    setting = {name: best[name] for name in SETTING if name in best}
    samples, folder = meta["samples"], run.work / str(meta["samples"])
    pipe = load_pipeline(str(run.assets / "emoji"), DTYPE["emoji"])
    judge = EmojiJudge.from_pretrained(run.assets / "emoji-judge").eval()
    captions, held_out = judge.config.captions, judge.config.held_out
    drawings = EmojiImages.load(CACHE)
    place = {caption: i for i, caption in enumerate(drawings.captions)}

    real = drawings.images[[place[caption] for caption in captions[:samples]]]
    again = (reconstructed(load_pipeline(str(run.assets / "emoji")).vae, real) * 255).round().to(torch.uint8)
    drawn = torch.from_numpy(draw(folder / row_name(setting), pipe, captions, setting, samples).array("images"))
    others = Reference.of(read_statistics(run.assets / "emoji-judge" / FEATURES).features[samples:])
    lite0 = load_extractor("lite0")
    rows = []
    for name, images in (("drawings", real), ("reconstructed", again), ("checkpoint", drawn)):
        features = torch.cat([lite0(some.float() / 255)["features"] for some in images.split(50)])
        rows.append(distances(name, features, others))

    names = {caption.split(" ", 1)[1] for caption in held_out}
    known = [caption for caption in captions if caption.split(" ", 1)[1] in names]
    for name, asked, times in (("held out", held_out, 5), ("known", known, 2)):
        one = folder / f"{name.replace(' ', '-')}-{row_name(setting)}"
        images = draw(one, pipe, asked, setting, times * len(asked), f"emoji world, {name}").array("images")
        rows += alignment(judge, name, torch.from_numpy(images), [*asked] * times)
    rows += alignment(judge, "held out, the drawings", drawings.images[[place[one] for one in held_out]], held_out)
    return {"checkpoint": "assets/emoji", "dtype": DTYPE["emoji"], "setting": setting}, rows


STUDY = Study(
    __doc__,
    (Report("emoji-heldout", measure, (Table("docs/emoji.md", "held out", "emoji-heldout", document),)),),
    samples="those of emoji-raag",
)

if __name__ == "__main__":
    STUDY.main()
