"""Train assets/patch-encoder: a small encoder of real photographs, self-supervised, for the study of RIGID.

SimCLR (arXiv 2002.05709) on patches of photographs that scikit-learn and scikit-image install with themselves. Two
views of a patch differ in crop, mirroring, colour and noise, so the encoder learns to look past noise on real pictures.
It sees no generated picture. It saves as it goes and resumes where it was killed. About four minutes on one core:

    python scripts/train_encoder.py
"""

import argparse
from pathlib import Path

import torch
from torch.nn import functional

from guidance.detection.patch_encoder import PatchEncoder
from guidance.worlds.photographs import SPLITS, load_patches, load_photographs
from guidance.worlds.shapes_model import write_card
from guidance.worlds.training import Plan, train


CARD = """# A small encoder of patches of real photographs

Features of 32 x 32 pictures, self-supervised (SimCLR with noise among the augmentations), trained from scratch by
scripts/train_encoder.py on photographs that scikit-learn and scikit-image install with themselves; licence Apache-2.0.
It has seen no generated picture. It is for measuring the RIGID detector where no foundation model can be had.

    Detector(load_encoder("local:assets/patch-encoder"))
"""


def crops(photographs: list[torch.Tensor], count: int, size: int, generator: torch.Generator) -> torch.Tensor:
    """(count, 3, 2 * size, 2 * size): places of random photographs, twice as large as what is cut out of them."""
    places = []
    for photograph in torch.randint(len(photographs), (count,), generator=generator).tolist():
        picture = photographs[photograph]
        top, left = (
            int(torch.randint(room - 2 * size + 1, (), generator=generator))
            for room in (picture.shape[1], picture.shape[2])
        )
        places.append(picture[:, top : top + 2 * size, left : left + 2 * size])
    return torch.stack(places)


def view(places: torch.Tensor, size: int, noise: float, generator: torch.Generator) -> torch.Tensor:
    """One view (B, 3, size, size) in [0, 1] of each place: crop, zoom, mirror, colour, noise."""
    count = len(places)

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    zoom = uniform(0.4, 0.7)  # side of the crop, in sides of the place; 0.5 keeps the pixels' size
    mirror = (torch.rand(count, generator=generator) < 0.5).float() * 2 - 1
    zero = torch.zeros(count)
    shifts = [(1 - zoom) * uniform(-0.6, 0.6) for _ in range(2)]
    affine = torch.stack([torch.stack([zoom * mirror, zero, shifts[0]], 1), torch.stack([zero, zoom, shifts[1]], 1)], 1)
    grid = functional.affine_grid(affine, (count, 3, size, size), align_corners=False)
    pictures = functional.grid_sample(places, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    grey = pictures.mean((1, 2, 3), keepdim=True)
    pictures = (pictures - grey) * uniform(0.7, 1.3, 1, 1, 1) + grey * uniform(0.8, 1.2, 3, 1, 1)
    strength = uniform(0, noise, 1, 1, 1)
    return (pictures + strength * torch.randn(pictures.shape, generator=generator)).clamp(0, 1)


def contrast(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """SimCLR's loss of features (B, D): each view must find the other view of its picture among all others."""
    both = functional.normalize(torch.cat([first, second]), dim=1)
    logits = (both @ both.T / temperature).fill_diagonal_(-1e4)
    count = len(first)
    return functional.cross_entropy(logits, torch.arange(2 * count).roll(count))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets/patch-encoder"))
    parser.add_argument("--work", type=Path, default=Path("out/train-encoder"), help="state and log")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--temperature", type=float, default=0.2)
    parser.add_argument("--noise", type=float, default=0.05, help="the most noise on a view, in [0, 1] (default 0.05)")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)

    torch.manual_seed(args.seed)
    model = PatchEncoder(args.width)
    photographs, size = load_photographs("train"), model.config.size
    normalise = model.transform()

    def loss(generator: torch.Generator) -> torch.Tensor:
        places = crops(photographs, args.batch, size, generator)
        views = [normalise(view(places, size, args.noise, generator)) for _ in range(2)]
        return contrast(*model.project(torch.cat(views)).chunk(2), args.temperature)

    plan = Plan(args.steps, args.learning_rate, args.seed, average=0.995, save_every=250, log_every=50)
    train(model, loss, plan, args.work)
    with torch.no_grad():
        model.centre.copy_(model(normalise(load_patches("train")[0])).mean(0))
    model.half().save_pretrained(args.out)
    names = ("steps", "batch", "learning_rate", "temperature", "noise", "width", "seed")
    write_card(args.out, CARD, {name: getattr(args, name) for name in names} | {"photographs": SPLITS["train"]})
    print(args.out)


if __name__ == "__main__":
    main()
