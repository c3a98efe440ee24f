"""Train the judge of the emoji world in assets/: it classifies name and style, and never guides. About 20 minutes.

    python -m scripts.training.emoji_judge --unseen    # first a twin that never sees the held-out pairs, for the card
    python -m scripts.training.emoji_judge             # rendered images: see scripts/training/emoji_images.py

Training draws each image shifted, scaled, turned, blurred, with other colours and with noise, coarse and fine. It saves
as it goes and resumes where it was killed.
"""

import argparse
import json
import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from diffusion_guidance.core.files import write_json
from diffusion_guidance.evaluation import Extractor, Moments, load_extractor
from diffusion_guidance.evaluation.subjects import load_world_extractor
from diffusion_guidance.worlds.emoji import EmojiImages
from diffusion_guidance.worlds.emoji_judge import EmojiJudge
from diffusion_guidance.worlds.emoji_measure import FEATURES, REFERENCE, save_features
from diffusion_guidance.worlds.shapes_model import write_card
from diffusion_guidance.worlds.training import Plan, train

from .emoji_images import CACHE


DATA = {"license": "other", "license_name": "see-sources", "library_name": "diffusion-guidance"}
DATA |= {"pipeline_tag": "image-classification", "tags": ["emoji"]}
CARD = """# The judge of the emoji world

Reads one of the names that assets/emoji was trained on, and one of four styles, in an image of 64 x 64 pixels. A small
convolutional network, trained from scratch by scripts/training/emoji_judge.py on augmented renderings of all drawings
of these names, those of the held-out pairs included: it judges, and never guides. Sources and licences of the drawings
are in the card of assets/emoji. It has no answer "none of these".

`config.json` lists the pairs that assets/emoji was trained on, in the order in which seeds ask for them, and the
held-out pairs of the same names.

Accuracy, of all drawings, on images that no training step has drawn: `augmented` (with a seed of its own), and
`reconstructed` (by the autoencoder of assets/emoji):"""
UNSEEN = " `unseen` is the accuracy of a twin on the held-out pairs, whose drawings it never saw:"


def augmented(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Images (B, 3, 64, 64) uint8 moved and disturbed, in [0, 1]; what is moved in from outside is white."""
    count, size = len(images), images.shape[-1]

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    angle, scale = uniform(-0.15, 0.15), uniform(0.9, 1.2)
    cos, sin, shift = angle.cos() * scale, angle.sin() * scale, uniform(-0.12, 0.12, 2)
    matrix = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], 1).view(count, 2, 3)
    places = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = 1 + functional.grid_sample(images.float() / 255 - 1, places, align_corners=False)
    soft = functional.interpolate(functional.avg_pool2d(moved, 3, 2, 1), (size, size), mode="bilinear")
    mixed = torch.lerp(moved, soft, uniform(-0.3, 1, 1, 1, 1))  # blurred, or sharpened a little
    coloured = mixed * uniform(0.8, 1.1, 3, 1, 1) + uniform(-0.1, 0.1, 1, 1, 1)
    fine = torch.randn(images.shape, generator=generator) * uniform(0, 0.06, 1, 1, 1)
    coarse = torch.randn(count, 3, size // 8, size // 8, generator=generator) * uniform(0, 0.15, 1, 1, 1)
    noise = fine + functional.interpolate(coarse, (size, size), mode="bicubic")
    return (coloured + noise).clamp(0, 1)


@torch.inference_mode()
def accuracy(judge: EmojiJudge, images: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Shares of images (N, 3, 64, 64) in [0, 1] whose name, style, and both are read right."""
    read = torch.cat([torch.stack([part.argmax(-1) for part in judge(some)], 1) for some in images.split(250)])
    right = read == labels
    names = {"name": right[:, 0], "style": right[:, 1], "both": right.all(1)}
    return {name: round(values.float().mean().item(), 4) for name, values in names.items()}


@torch.inference_mode()
def reconstructed(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    """What the autoencoder makes of images (N, 3, 64, 64) uint8, in [0, 1]."""
    parts = [vae(some.float() / 127.5 - 1).sample for some in images.split(64)]
    return (torch.cat(parts) / 2 + 0.5).clamp(0, 1)


def write_references(assets: Path, shown: EmojiImages, captions: list[str]) -> None:
    """Features of the drawings that `captions` name, in their order: moments of the judge's, and lite0's themselves."""
    index = {caption: i for i, caption in enumerate(shown.captions)}
    images = shown.images[[index[caption] for caption in captions]]

    def features(extractor: Extractor) -> torch.Tensor:
        return torch.cat([extractor(some.float() / 255)["features"] for some in images.split(64)])

    folder, judge, lite0 = assets / "emoji-judge", load_world_extractor("emoji", assets), load_extractor("lite0")
    Moments.of(features(judge)).save(folder / REFERENCE, {"extractor": json.dumps(judge.identity)})
    save_features(folder / FEATURES, features(lite0), json.dumps(lite0.identity))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=CACHE, help="rendered by scripts.training.emoji_images")
    parser.add_argument("--work", type=Path, default=Path("out/emoji"), help="states and logs")
    parser.add_argument("--assets", type=Path, default=Path("assets"), help="with emoji; emoji-judge is written there")
    parser.add_argument("--names", type=int, default=607, help="how many names assets/emoji has learned")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unseen", action="store_true", help="leave the held-out pairs out, and read them")
    args = parser.parse_args(arguments)

    every = EmojiImages.load(args.images)
    shown, (trained, _) = every.first(args.names), every.split()
    captions = sorted(set(trained.captions) & set(shown.captions))
    held_out = sorted(set(shown.captions) - set(captions))
    random.Random(args.seed).shuffle(captions)
    torch.manual_seed(args.seed)
    judge = EmojiJudge(captions, held_out, args.width)
    data = shown.where(lambda caption, _: caption not in held_out) if args.unseen else shown
    labels = judge.labels(data.captions)

    def loss(generator: torch.Generator) -> torch.Tensor:
        index = torch.randint(len(data), (args.batch,), generator=generator)
        batch = augmented(data.images[index], generator)
        with torch.autocast("cpu", torch.bfloat16):
            found = judge(batch)
        pairs = zip(found, labels[index].unbind(1), strict=True)
        return sum(functional.cross_entropy(logits.float(), asked, label_smoothing=0.05) for logits, asked in pairs)

    plan = Plan(args.steps, 2e-3, args.seed, save_every=200, log_every=20, average=0.998)
    train(judge, loss, plan, args.work / ("judge-unseen" if args.unseen else "judge"))
    unseen = args.work / "judge-unseen" / "accuracy.json"
    if args.unseen:
        others = shown.where(lambda caption, _: caption in held_out)
        write_json(unseen, accuracy(judge, others.images.float() / 255, judge.labels(others.captions)))
        return
    judge.to(torch.float16).save_pretrained(args.assets / "emoji-judge")
    judge = EmojiJudge.from_pretrained(args.assets / "emoji-judge").float().eval()
    vae = AutoencoderKL.from_pretrained(args.assets / "emoji" / "vae").eval()
    facts = {name: getattr(args, name) for name in ("seed", "names", "steps", "batch")} | {"drawings": len(shown)}
    facts["augmented"] = accuracy(judge, augmented(shown.images, torch.Generator().manual_seed(2**40)), labels)
    facts["reconstructed"] = accuracy(judge, reconstructed(vae, shown.images), labels)
    text = CARD
    if unseen.exists():
        facts["unseen"] = json.loads(unseen.read_text(encoding="utf-8"))
        text = f"{CARD[:-1]}.{UNSEEN}"
    write_references(args.assets, shown, captions)
    write_card(args.assets / "emoji-judge", text, facts, **DATA)
    print(facts)


if __name__ == "__main__":
    main()
