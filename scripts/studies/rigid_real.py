"""RIGID with an ImageNet network as its encoder, and how much sharpness alone explains: docs/results/rigid-real.json.

Photographs of scikit-image and scikit-learn against ESRGAN and a DCGAN, rendered emoji against those that the emoji
checkpoint draws, and styles of emoji against one another. Both sides of a row have one size and are written as JPEG 90.
Every row has controls: `bicubic`, the real side against itself at half the size and back, which is not generated;
`random`, the same network with random weights; `sharpness`, the mean gradient in place of RIGID's score, without a
network; and `matched`, the real side blurred until its mean sharpness equals the other side's. Five minutes
on one core, with the packages of real_generators in the folder --work, and emoji rendered by
scripts/training/emoji_images:

    python -m scripts.studies.rigid_real --work FOLDER
"""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from tqdm import tqdm

from diffusion_guidance.core.files import write_atomic
from diffusion_guidance.core.plots import canvas, write_plot
from diffusion_guidance.detection.cautions import READING
from diffusion_guidance.detection.corruptions import detection_figures, encoded
from diffusion_guidance.detection.rigid import Detector, gaussian_blur
from diffusion_guidance.evaluation import markdown_table
from diffusion_guidance.evaluation.metrics.estimate import Estimate
from diffusion_guidance.evaluation.summary import estimates_row
from diffusion_guidance.networks.encoders import Encoder, load_encoder
from diffusion_guidance.pipelines import load_pipeline
from diffusion_guidance.worlds.emoji import STYLES, EmojiImages
from diffusion_guidance.worlds.emoji_judge import EmojiJudge
from diffusion_guidance.worlds.photographs import SPLITS, load_patches
from scripts.studies.emoji_raag import draw
from scripts.studies.real_generators import DCGAN, ESRGAN, dcgan, esrgan
from scripts.studies.study import DTYPE, Report, Run, Study, Table
from scripts.training.emoji_images import CACHE
from scripts.training.emoji_judge import reconstructed


SAMPLES = 40  # emoji, or faces, a set
PATCH = 96  # pixels of a photograph's pieces: all that there are, side by side
SETTING = {"method": "cfg", "weight": 3.0, "steps": 10}  # of the drawn emoji
COLUMNS = ("auroc", "random", "bicubic", "matched", "sharpness")


@dataclass(frozen=True)
class Pair:
    """One row: images (N, 3, H, W) and (M, 3, H, W) in [0, 1] of one size; `factor` of the bicubic control."""

    real: str
    fake: str
    kind: str
    sides: tuple[torch.Tensor, torch.Tensor]
    factor: int = 2


def resized(images: torch.Tensor, size: int) -> torch.Tensor:
    return functional.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def photograph_pairs(folder: Path, count: int) -> list[Pair]:
    """Pieces of photographs against ESRGAN's of a quarter of their pixels per side, and against faces of the DCGAN."""
    real = torch.cat([load_patches(split, PATCH)[0] for split in SPLITS])[: count if count < SAMPLES else None]
    faces = dcgan(folder / DCGAN, count)
    upscaled = esrgan(folder / ESRGAN, resized(real, PATCH // 4))
    return [
        Pair("photographs", "ESRGAN x4 of them", "generated", (real, upscaled), 4),
        Pair("photographs, 64 pixels", "DCGAN faces", "generated, other content", (resized(real, 64), faces)),
    ]


def emoji_pairs(run: Run, count: int) -> list[Pair]:
    """Rendered emoji against the checkpoint's, the autoencoder's, and other styles of the same names."""
    drawings = EmojiImages.load(CACHE)
    place = {caption: i for i, caption in enumerate(drawings.captions)}
    captions = EmojiJudge.load_config(run.assets / "emoji-judge")["captions"][:count]
    real = drawings.images[[place[caption] for caption in captions]]
    pipe = load_pipeline(str(run.assets / "emoji"), DTYPE["emoji"])
    drawn = torch.from_numpy(draw(run.work / f"emoji-{count}", pipe, captions, SETTING, count).array("images"))
    again = reconstructed(load_pipeline(str(run.assets / "emoji")).vae, real)
    pairs = [
        Pair("emoji, rendered", "drawn by the checkpoint", "generated", (real / 255, drawn / 255)),
        Pair("emoji, rendered", "through its autoencoder", "reconstructed", (real / 255, again.float())),
    ]
    first, *others = STYLES
    names = [one.split(" ", 1)[1] for one in drawings.captions if one.startswith(f"{first} ")]
    names = [name for name in names if all(f"{style} {name}" in place for style in STYLES)]
    names = [names[i * len(names) // count] for i in range(count)]
    sides = {style: drawings.images[[place[f"{style} {name}"] for name in names]] / 255 for style in STYLES}
    return pairs + [
        Pair(f"emoji, {first}", f"emoji, {style}", "both rendered", (sides[first], sides[style])) for style in others
    ]


def sharpness(images: torch.Tensor) -> torch.Tensor:
    """(N,) mean absolute difference of neighbouring pixels over the standard deviation of images (N, 3, H, W)."""
    across, down = images.diff(dim=-1).abs().mean((1, 2, 3)), images.diff(dim=-2).abs().mean((1, 2, 3))
    return (across + down) / images.std((1, 2, 3)).clamp_min(1e-6)


def matched(real: torch.Tensor, fake: torch.Tensor) -> tuple[torch.Tensor, float]:
    """`real` blurred until its mean sharpness is that of `fake`, and sigma in pixels; 0 where `fake` is the sharper."""
    wanted, low, high = sharpness(fake).mean(), 0.0, 4.0
    if sharpness(real).mean() <= wanted:
        return real, 0.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if sharpness(gaussian_blur(real, middle)).mean() > wanted else (low, middle)
    return gaussian_blur(real, high), high


def jpeg(images: torch.Tensor) -> torch.Tensor:
    return encoded(images.float(), "JPEG", quality=90)


def encoders() -> tuple[Encoder, Encoder]:
    """EfficientNet-Lite0 of ImageNet, and the same network with random weights; the global generator is left alone."""
    trained = load_encoder("efficientnet_lite:lite0")
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0).eval()
    return trained, Encoder("lite0, random weights", module, trained.transform)


def scored(detector: Detector, images: torch.Tensor, folder: Path) -> torch.Tensor:
    """The detector's score (N,) of images, kept in `folder`. Rows share their real sides; a killed study goes on."""
    key = json.dumps(detector.identity, sort_keys=True).encode() + images.contiguous().numpy().tobytes()
    path = folder / f"{hashlib.sha256(key).hexdigest()[:16]}.safetensors"
    if not path.exists():
        found = {"scores": detector.score(images)}
        write_atomic(path, lambda temporary: save_file(found, temporary))
    return load_file(path)["scores"]


def row(pair: Pair, trained: Detector, untrained: Detector, folder: Path) -> dict:
    """The AUROC of the pair and of its controls, with intervals, real above generated."""
    real, fake = pair.sides
    smaller = resized(resized(real, real.shape[-1] // pair.factor), real.shape[-1])
    blurred, sigma = matched(real, fake)
    real, fake, smaller, blurred = (jpeg(images) for images in (real, fake, smaller, blurred))
    whole = scored(trained, real, folder)
    found_fake = scored(trained, fake, folder)
    compared = {
        "auroc": (whole, found_fake),
        "random": (scored(untrained, real, folder), scored(untrained, fake, folder)),
        "bicubic": (whole, scored(trained, smaller, folder)),
        "matched": (scored(trained, blurred, folder), found_fake),
        "sharpness": (sharpness(real), sharpness(fake)),
    }
    found: list[Estimate] = [replace(detection_figures(*sides)[0], name=name) for name, sides in compared.items()]
    facts = {"real": pair.real, "fake": pair.fake, "kind": pair.kind, "samples": len(real) + len(fake)}
    return facts | {"factor": pair.factor, "blur": sigma} | estimates_row(found)


def table(rows: list[dict]) -> str:
    return markdown_table(rows, ["real", "fake", "kind", "samples", *COLUMNS[:3], "blur", *COLUMNS[3:]], digits=2)


def plot(path: Path, rows: list[dict]) -> None:
    """Every AUROC of a row next to its controls, with intervals."""
    figure = canvas(9, 5.4)
    axes = figure.subplots()
    labels = {"auroc": "RIGID, lite0", "random": "RIGID, random weights", "bicubic": "bicubic control, lite0"}
    labels |= {"matched": "real side blurred alike, lite0", "sharpness": "sharpness alone, no network"}
    for number, (name, label) in enumerate(labels.items()):
        places = np.arange(len(rows)) + 0.14 * (number - 2)
        (line,) = axes.plot([one[name] for one in rows], places, "o", markersize=5, label=label)
        axes.hlines(places, *zip(*(one[f"{name}_interval"] for one in rows), strict=True), color=line.get_color())
    axes.axvline(0.5, color="0.6", linestyle=":")
    axes.set_yticks(range(len(rows)), [f"{one['real']} against\n{one['fake']}" for one in rows], fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="AUROC, the left-named side above the other", xlim=(-0.02, 1.02))
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.4, -0.1), ncols=3)
    write_plot(path, figure)


def measure(run: Run) -> tuple[dict, list[dict]]:
    count = run.samples or SAMPLES
    if missing := [place for place in (ESRGAN, DCGAN) if not (run.work / place).exists()]:
        raise SystemExit(f"{missing[0]} is not in {run.work}; the head of scripts/studies/real_generators.py says how")
    detectors = [Detector.published(encoder) for encoder in encoders()]
    pairs = photograph_pairs(run.work, count) + emoji_pairs(run, count)
    pairs = [pair for pair in pairs if run.wanted([{"kind": pair.kind}])]
    rows = [row(pair, *detectors, run.work / "scores") for pair in tqdm(pairs, unit="pair", desc="scoring")]
    names = [detector.encoder.name for detector in detectors]
    facts = {"encoders": names, "noise": 0.05, "draws": 1, "encoding": "JPEG 90", "setting": SETTING}
    return facts | {"reading": READING}, rows


STUDY = Study(
    __doc__,
    (
        Report(
            "rigid-real",
            measure,
            (Table("docs/rigid.md", "real", "rigid-real", lambda _, rows: table(rows)),),
            {"": plot},
        ),
    ),
    samples=f"{SAMPLES}, and all pieces of photographs",
)

if __name__ == "__main__":
    STUDY.main()
