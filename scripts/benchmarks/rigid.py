"""Images per second through RIGID: ours against the published computation with the same encoder, interleaved.

    python -m scripts.benchmarks rigid --json out/rigid.json

The published way, written straightforwardly: for each batch and each draw, features of the clean images, features of
the noisy ones, cosine. Ours computes the clean features once and batches the draws, and its noise belongs to the
image. Memory is measured in processes of their own, for a number of images and for eight times as many.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

import torch

from diffusion_guidance.detection import Encoder, load_encoder
from diffusion_guidance.detection.rigid import Detector
from scripts.benchmarks.frame import Benchmark
from scripts.benchmarks.timing import interleaved, medians, peak_bytes, ratio


def published(encoder: Encoder, images: torch.Tensor, draws: int, batch: int, noise: float = 0.05) -> torch.Tensor:
    """(B,) similarities as in the authors' notebook, averaged over the draws."""
    scores = []
    with torch.no_grad():
        for part in images.split(batch):
            inputs = encoder.transform(part.to(encoder.device))
            sims = []
            for _ in range(draws):
                clean = encoder.features(inputs)
                noisy = encoder.features(inputs + noise * torch.randn_like(inputs))
                sims.append(torch.nn.functional.cosine_similarity(clean, noisy, dim=1))
            scores.append(torch.stack(sims).mean(0))
    return torch.cat(scores)


def ours(encoder: Encoder, images: torch.Tensor, draws: int, batch: int) -> torch.Tensor:
    """(B,) similarities; `batch` is of what the encoder sees at once, as in `published`."""
    return Detector(encoder, draws=draws, batch=max(batch, 1 + draws)).score(images)


def peak_mib(args: argparse.Namespace, count: int, draws: int) -> float:
    """Peak memory of a process that scores `count` images, made one batch at a time."""
    command = [sys.executable, "-m", "scripts.benchmarks.rigid"]
    command += map(str, (count, draws, args.encoder, args.size, args.batch))
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()[-1])


def _peak(count: int, draws: int, encoder: str, size: int, batch: int) -> float:
    detector = Detector(load_encoder(encoder, size=size), draws=draws, batch=batch)
    for _ in range(0, count, batch):
        detector.score(torch.rand(batch, 3, size, size))
    return peak_bytes() / 2**20


def rows(args: argparse.Namespace) -> Iterator[dict]:
    encoder = load_encoder(args.encoder, args.device, args.size)
    images = torch.rand(args.images, 3, args.size, args.size, generator=torch.Generator().manual_seed(0))
    for draws in args.draws:
        ways = {
            "ours": partial(ours, encoder, images, draws, args.batch),
            "published": partial(published, encoder, images, draws, args.batch),
        }
        times = interleaved(ways, args.rounds)
        found = medians(times)
        yield {
            "draws": draws,
            **ratio("speedup", times["published"], times["ours"]),
            "pictures_per_second": 1000 * args.images / found["ours_ms"],
            "published_pictures_per_second": 1000 * args.images / found["published_ms"],
            "peak_mib": peak_mib(args, 2 * args.batch, draws),
            "peak_mib_of_eight_times_the_pictures": peak_mib(args, 16 * args.batch, draws),
        }


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--encoder", default="random:vit_small_patch16_224", help="see load_encoder")
    parser.add_argument("--size", type=int, default=224, help="pixels per side (default 224)")
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--images", type=int, default=16, help="images a round (default 16)")
    parser.add_argument("--batch", type=int, default=16, help="images that the encoder sees at once (default 16)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")


FACTS = ("encoder", "device", "size", "batch", "images", "rounds")
TEXT = "{draws} draws: {pictures_per_second:.1f} images a second, {speedup:.2f} times the published way"
BENCHMARK = Benchmark(__doc__, rows, FACTS, TEXT, options, rounds=10)

if __name__ == "__main__":  # what `peak_mib` starts
    count, draws, encoder, size, batch = sys.argv[1:]
    print(_peak(int(count), int(draws), encoder, int(size), int(batch)))
