"""Train assets/patch-encoder: a small encoder of real photographs, self-supervised, for the study of RIGID.

Filters are learnt from pieces of photographs that scikit-learn and scikit-image install with themselves, after Coates
and Ng (Learning Feature Representations with K-means, 2012): the pieces are whitened, and the filters are the centres
of spherical k-means. It sees no generated image. Some seconds on one core:

    python -m scripts.training.encoder
"""

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn import functional

from diffusion_guidance.networks.patch_encoder import PatchEncoder
from diffusion_guidance.worlds.photographs import SPLITS, load_patches
from diffusion_guidance.worlds.shapes_model import write_card


DATA = {"library_name": "diffusion-guidance", "pipeline_tag": "image-feature-extraction", "tags": ["rigid"]}
CARD = """# A small encoder of patches of real photographs

A sparse code of grey 32 x 32 images: filters learnt by spherical k-means from whitened pieces (Coates and Ng, 2012),
by scripts/training/encoder.py, of photographs that scikit-learn and scikit-image install with themselves; licence
Apache-2.0. It has seen no generated image. It is for measuring the RIGID detector where no foundation model can be
had.

    Detector(load_encoder("local:assets/patch-encoder"))
"""


@dataclass(frozen=True)
class Learning:
    """Settings of the training of an encoder.

    Args:
        filters, patch: see `PatchEncoder`.
        floor: added to the variances when they are whitened, in parts of their mean.
        threshold: of the responses, in their standard deviations.
        rounds: of k-means; 0 takes filters at random, and does not whiten: the floor of a comparison.
        pieces: how many are learnt from.
        seed: of the choice of pieces and of the first filters.
    """

    filters: int = 128
    patch: int = 4
    floor: float = 0.03
    threshold: float = 1.5
    rounds: int = 12
    pieces: int = 20_000
    seed: int = 0


@torch.no_grad()
def learn(patches: torch.Tensor, how: Learning) -> PatchEncoder:
    """An encoder of real images like `patches` (N, 3, size, size) in [0, 1]."""
    generator = torch.Generator().manual_seed(how.seed)
    model = PatchEncoder(how.filters, how.patch, patches.shape[-1]).eval()
    images = model.transform()(patches)
    pieces = functional.unfold(images.mean(1, keepdim=True), how.patch, stride=3).mT.flatten(0, 1)
    pieces = pieces[torch.randperm(len(pieces), generator=generator)[: how.pieces]]
    flat = torch.eye(how.patch**2) - 1 / how.patch**2  # takes the mean of a piece away
    if how.rounds:
        flat = flat @ whitening(pieces @ flat, how.floor)
        filters = directions(pieces @ flat, how.filters, how.rounds, generator)
    else:
        filters = functional.normalize(torch.randn(how.filters, how.patch**2, generator=generator), dim=1)
    model.dictionary.weight.copy_((filters @ flat.T).reshape(model.dictionary.weight.shape))
    model.threshold.copy_(how.threshold * model.dictionary(images.mean(1, keepdim=True)).std())
    model.centre.copy_(model.code(images).mean((0, 2, 3))[:, None, None])
    return model


def whitening(pieces: torch.Tensor, floor: float) -> torch.Tensor:
    """(D, D), symmetric: pieces (N, D) of mean 0 times it have variance 1 in all directions, except for the floor."""
    values, vectors = torch.linalg.eigh(pieces.T @ pieces / len(pieces))
    return vectors * (values.clamp_min(0) + floor * values.mean()).rsqrt() @ vectors.T


def directions(pieces: torch.Tensor, count: int, rounds: int, generator: torch.Generator) -> torch.Tensor:
    """(count, D) of length 1: spherical k-means, in which a piece and its negative are of one direction."""
    found = functional.normalize(pieces[torch.randperm(len(pieces), generator=generator)[:count]], dim=1)
    for _ in range(rounds):
        responses = pieces @ found.T
        nearest = responses.abs().argmax(1, keepdim=True)
        sums = torch.zeros_like(found).index_add_(0, nearest[:, 0], responses.gather(1, nearest) * pieces)
        # A direction that no piece is nearest to becomes a random one.
        found = functional.normalize(sums + 1e-3 * torch.randn(found.shape, generator=generator), dim=1)
    return found


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets/patch-encoder"))
    for name, value in asdict(Learning()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"see Learning (default {value})")
    args = parser.parse_args(argv)
    how = Learning(**{name: getattr(args, name) for name in asdict(Learning())})
    learn(load_patches("train")[0], how).half().save_pretrained(args.out)
    write_card(args.out, CARD, asdict(how) | {"photographs": SPLITS["train"]}, **DATA)
    print(args.out)


if __name__ == "__main__":
    main()
