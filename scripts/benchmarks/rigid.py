"""Images a second through RIGID: ours against the published computation with the same encoder, interleaved.

    python -m scripts.benchmarks rigid --json out/rigid.json

The published way, written straightforwardly: for each batch and each draw, features of the clean images, features of
the noisy ones, cosine. Ours computes the clean features once and batches the draws, and its noise belongs to the
image. Memory is measured in processes of their own, for a number of images and for eight times as many.
"""

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import torch

from diffusion_guidance.detection import Encoder, load_encoder
from diffusion_guidance.detection.rigid import Detector
from diffusion_guidance.evaluation.report import describe_run, write_report
from scripts.benchmarks.timing import interleaved, machine, medians, ratio


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
    """The most that a process scoring `count` images, made one batch at a time, ever holds."""
    command = [
        sys.executable,
        "-m",
        "scripts.benchmarks.rigid",
        "--peak",
        str(count),
        str(draws),
        "--encoder",
        args.encoder,
    ]
    command += ["--size", str(args.size), "--batch", str(args.batch)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()[-1])


def _peak(args: argparse.Namespace) -> float:
    count, draws = args.peak
    detector = Detector(load_encoder(args.encoder, size=args.size), draws=draws, batch=args.batch)
    for _ in range(0, count, args.batch):
        detector.score(torch.rand(args.batch, 3, args.size, args.size))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--encoder", default="random:vit_small_patch16_224", help="see load_encoder")
    parser.add_argument("--size", type=int, default=224, help="pixels a side (default 224)")
    parser.add_argument("--draws", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--images", type=int, default=16, help="images a round (default 16)")
    parser.add_argument("--batch", type=int, default=16, help="images that the encoder sees at once (default 16)")
    parser.add_argument("--rounds", type=int, default=10, help="of both ways (default 10; at least 2)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--peak", type=int, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.peak:
        print(_peak(args))
        return
    if args.rounds < 2:
        parser.error("--rounds must be at least 2")

    encoder, rows = load_encoder(args.encoder, args.device, args.size), []
    images = torch.rand(args.images, 3, args.size, args.size, generator=torch.Generator().manual_seed(0))
    for draws in args.draws:
        ways = {
            "ours": lambda draws=draws: ours(encoder, images, draws, args.batch),
            "published": lambda draws=draws: published(encoder, images, draws, args.batch),
        }
        for way in ways.values():
            way()  # a warm-up
        times = interleaved(ways, args.rounds)
        found = medians(times)
        rows.append(
            {
                "draws": draws,
                **ratio("speedup", times["published"], times["ours"]),
                "pictures_per_second": 1000 * args.images / found["ours_ms"],
                "published_pictures_per_second": 1000 * args.images / found["published_ms"],
                "peak_mib": peak_mib(args, 2 * args.batch, draws),
                "peak_mib_of_eight_times_the_pictures": peak_mib(args, 16 * args.batch, draws),
            }
        )
        print(rows[-1], flush=True)
    if args.json:
        facts = {"encoder": encoder.name, "device": args.device, **machine()}
        facts |= {"size": args.size, "batch": args.batch, "images": args.images, "rounds": args.rounds}
        print(write_report(args.json, describe_run(**facts), rows))


if __name__ == "__main__":
    main()
