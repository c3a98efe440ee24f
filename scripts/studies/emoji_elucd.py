"""EluCD by an ImageNet network on emoji whose class ImageNet has: docs/results/emoji-elucd.json.

The classifier is EfficientNet-Lite0, off the shelf: it has seen neither noise nor these drawings. Prompts are those of
the judge whose name is one that ImageNet has for a class, and means the same. Each row stands next to plain guidance
with the same weight, in as many evaluations, on the same seeds; the judge is another network. Two hours on one core:

    python -m scripts.studies.emoji_elucd
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from diffusion_guidance import CFG, ClassifierGuidance, Strength
from diffusion_guidance.core.callback import Guide
from diffusion_guidance.evaluation import markdown_table
from diffusion_guidance.evaluation.metrics.estimate import mean_estimate
from diffusion_guidance.evaluation.study import row_name
from diffusion_guidance.evaluation.summary import estimates_row
from diffusion_guidance.networks.classifiers import load_classifier
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.emoji_judge import EmojiJudge
from diffusion_guidance.worlds.emoji_measure import aligned
from scripts.studies.emoji_raag import SAMPLES, cost, draw, read
from scripts.studies.study import DTYPE, Report, Run, Study, Table, span


CLASSIFIER = "efficientnet_lite:lite0"
WEIGHTS = (1.0, 2.0, 3.0)
SCALES = ((1.0, 4.0), (1.0, 16.0), (3.0, 16.0))  # (weight, scale of the schedule "x0")
STEPS = 10
SCORES = ("alignment", "name", "style")
CHUNK = 64  # images at once in the gradient
#: Name of the judge -> class id of ImageNet.
# fmt: off
CLASSES = {
    "abacus": 398, "accordion": 401, "ambulance": 407, "backpack": 414, "badger": 362, "bagel": 931, "balloon": 417,
    "banana": 954, "banjo": 420, "baseball": 429, "basketball": 430, "bathtub": 435, "beaver": 337,
    "bell pepper": 945, "bison": 347, "broccoli": 937, "broom": 462, "bucket": 463, "burrito": 965, "candle": 470,
    "canoe": 472, "castle": 483, "church": 497, "cockroach": 314, "drum": 541, "envelope": 549, "flamingo": 130,
    "flute": 558, "fountain": 562, "goose": 99, "gorilla": 366, "hammer": 587, "hamster": 333, "hedgehog": 334,
    "hippopotamus": 344, "hot dog": 934, "ice cream": 928, "jellyfish": 107, "koala": 105, "lady beetle": 301,
    "laptop": 620, "lemon": 951, "lion": 291, "lipstick": 629, "llama": 355, "microphone": 650, "mosque": 668,
    "mushroom": 947, "orangutan": 365, "otter": 360, "parachute": 701, "peacock": 84, "pineapple": 953, "pizza": 963,
    "polar bear": 296, "pretzel": 932, "saxophone": 776, "scorpion": 71, "screwdriver": 784, "skunk": 361,
    "snail": 113, "speedboat": 814, "strawberry": 949, "sunglasses": 837, "syringe": 845, "taxi": 468, "teapot": 849,
    "tiger": 292, "tractor": 866, "umbrella": 879, "violin": 889, "volcano": 980, "volleyball": 890, "zebra": 340,
}
# fmt: on


def table() -> list[dict]:
    """What distinguishes the rows: plain guidance at each weight, then with the classifier."""
    plain = [{"method": "cfg", "weight": weight, "steps": STEPS} for weight in WEIGHTS]
    guided = [{"method": "cfg+elucd", "weight": weight, "steps": STEPS, "scale": scale} for weight, scale in SCALES]
    return plain + guided


def asked_for(captions: Sequence[str]) -> list[str]:
    """The captions whose name is a class of ImageNet."""
    return [caption for caption in captions if caption.split(" ", 1)[1] in CLASSES]


def with_gains(rows: Sequence[dict], right: Sequence[Mapping[str, np.ndarray]]) -> list[dict]:
    """Rows with the classifier, and each score minus that of plain guidance with the same weight, on the same seeds."""
    plain = {row["weight"]: values for row, values in zip(rows, right, strict=True) if row["method"] == "cfg"}
    result = []
    for row, ours in zip(rows, right, strict=True):
        gains = {}
        if row["method"] != "cfg" and row["weight"] in plain:
            for score in SCORES:
                name = "gain" if score == "alignment" else f"{score}_gain"
                gains |= mean_estimate(name, ours[score] - plain[row["weight"]][score]).as_row()
        result.append(row | gains)
    return result


def document(meta: dict, rows: list[dict]) -> str:
    """The whole table, under what it was measured with."""
    facts = (
        f"{meta['samples']} images a row, seeds {meta['seeds']}, {meta['captions']} captions of {len(CLASSES)} names, "
    )
    columns = ["method", "weight", "scale", "steps", "nfe", "effective_weight", "alignment", "gain"]
    table = markdown_table(rows, [*columns, "name", "name_gain", "style", "style_gain"], digits=3)
    return f"{facts}{meta['dtype']}, guided by {meta['classifier']}.\n\n{table}"


def measure(run: Run) -> tuple[dict, list[dict]]:
    count = run.samples or SAMPLES
    pipe = load_pipeline(str(run.assets / "emoji"), DTYPE["emoji"])
    judge = EmojiJudge.from_pretrained(run.assets / "emoji-judge").eval().to(pipe.device)
    classifier = load_classifier(CLASSIFIER, device=pipe.device)
    captions = asked_for(judge.config.captions)
    caption = lambda seed: captions[seed % len(captions)]  # noqa: E731

    def found_in(images: torch.Tensor, seeds: Sequence[int]) -> dict[str, torch.Tensor]:
        found = aligned(judge, images, [caption(seed) for seed in seeds])
        return {name: found[name] for name in SCORES}

    rows, right = [], []
    for row in run.wanted(table()):

        def guidance(seeds: Sequence[int], row: Mapping = row) -> list[Guide]:
            labels = [CLASSES[caption(seed).split(" ", 1)[1]] for seed in seeds]
            by = ClassifierGuidance(classifier, Strength(scale=row.get("scale")), labels=labels, chunk=CHUNK)
            return [CFG(row["weight"]), by] if "scale" in row else [CFG(row["weight"])]

        place = run.work / str(count) / row_name(row)
        drawn = draw(place, pipe, captions, row, count, "emoji world that ImageNet has", guidance)
        store = read(place, torch.from_numpy(drawn.array("images")), found_in, {"judge": "assets/emoji-judge"})
        right.append({name: store.array(name).astype(np.float32) for name in SCORES})
        scores = [mean_estimate(name, store.array(name)) for name in SCORES]
        rows.append(row | cost(drawn) | estimates_row(scores))
    facts = {"samples": count, "seeds": span(count), "captions": len(captions), "checkpoint": "assets/emoji"}
    return facts | {"dtype": DTYPE["emoji"], "classifier": CLASSIFIER}, with_gains(rows, right)


STUDY = Study(
    __doc__,
    (Report("emoji-elucd", measure, (Table("docs/emoji.md", "elucd", "emoji-elucd", document),)),),
    samples=str(SAMPLES),
)

if __name__ == "__main__":
    STUDY.main()
