"""Speed and memory of the Frechet distance from features: ours against torchmetrics and torch-fidelity.

    python -m scripts.benchmarks.evaluation --json out/evaluation.json     # about five minutes on two cores

Each measurement runs in a process of its own, on the same features, made from one seed in batches: the statistics of
both sides in one pass, then the distance. Memory is the most that the process held above what it held once its
libraries were loaded. torch-fidelity's way needs all features at once, so they are held there, and only there.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from diffusion_guidance.evaluation import describe_run, markdown_table, write_report
from scripts.benchmarks.timing import machine


def batches(count: int, dim: int, batch: int, side: int) -> Iterator[np.ndarray]:
    """Features (B, dim) float32 of one side, the same for every library; never all in memory."""
    rng = np.random.default_rng(side)
    for start in range(0, count, batch):
        rows = rng.standard_normal((min(batch, count - start), dim), dtype=np.float32)
        yield rows * (1 + 0.1 * side) + 0.1 * side


def ours(*sides) -> float:
    from diffusion_guidance.evaluation import Moments, frechet_distance

    both = []
    for side in sides:
        moments = Moments()
        for rows in side:
            moments.update(rows)
        both.append(moments)
    return frechet_distance(*both)


def torchmetrics(*sides) -> float:
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Features(torch.nn.Module):
        def __init__(self, dim: int):
            super().__init__()
            self.num_features = dim

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return features

    metric = None
    for real, side in zip((True, False), sides, strict=True):
        for rows in side:
            if metric is None:
                metric = FrechetInceptionDistance(feature=Features(rows.shape[1]))
            metric.update(torch.from_numpy(rows), real=real)
    return float(metric.compute())


def torch_fidelity(*sides) -> float:
    import torch
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    both = [fid_features_to_statistics(torch.from_numpy(np.concatenate(list(side)))) for side in sides]
    return fid_statistics_to_metric(*both, verbose=False)[KEY_METRIC_FID]


LIBRARIES = {"ours": ours, "torchmetrics": torchmetrics, "torch-fidelity": torch_fidelity}


def peak_bytes() -> int:
    """The most memory that this process has held; Linux counts in KiB, macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(library: str, count: int, dim: int, batch: int) -> dict:
    """One measurement, in this process; making the features is timed apart and taken off."""
    run = LIBRARIES[library]
    run(*(batches(8, 4, 4, side) for side in (0, 1)))  # imports and warms up
    started = time.perf_counter()
    for side in (0, 1):
        for _ in batches(count, dim, batch, side):
            pass
    making = time.perf_counter() - started
    before, started = peak_bytes(), time.perf_counter()
    value = run(*(batches(count, dim, batch, side) for side in (0, 1)))
    seconds = max(time.perf_counter() - started - making, 1e-9)
    return {
        "method": library,
        "samples": count,
        "dimensions": dim,
        "frechet": value,
        "seconds": seconds,
        "pictures_per_second": 2 * count / seconds,
        "peak_mib": (peak_bytes() - before) / 2**20,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="1000,10000,50000", help="feature vectors a side")
    parser.add_argument("--dim", type=int, default=2048, help="dimensions (default 2048)")
    parser.add_argument("--batch", type=int, default=64, help="vectors at once (default 64)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--one", nargs=2, metavar=("LIBRARY", "COUNT"), help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]), args.dim, args.batch)))
        return
    try:
        counts = [int(part) for part in args.counts.split(",")]
    except ValueError:
        parser.error(f"cannot read --counts {args.counts!r}; write for example 1000,5000")
    rows = []
    for count in counts:
        for library in LIBRARIES:
            command = [
                sys.executable,
                "-m",
                "scripts.benchmarks.evaluation",
                "--dim",
                str(args.dim),
                "--batch",
                str(args.batch),
            ]
            result = subprocess.run([*command, "--one", library, str(count)], stdout=subprocess.PIPE, check=True)
            rows.append(json.loads(result.stdout.splitlines()[-1]))
            print(rows[-1], file=sys.stderr)
    print(markdown_table(rows, list(rows[0])))
    if args.json:
        write_report(args.json, describe_run(batch=args.batch, **machine()), rows)


if __name__ == "__main__":
    main()
