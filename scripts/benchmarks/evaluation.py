"""Speed and memory of the Frechet distance from features: ours against torchmetrics and torch-fidelity.

    python -m scripts.benchmarks evaluation --json out/evaluation.json     # about five minutes on two cores

Each measurement runs in a process of its own, on the same features, made from one seed in batches: the statistics of
both sides in one pass, then the distance. Memory is the peak above what the process held once its libraries were
loaded. torch-fidelity needs all features at once, so only its process holds them.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np

from scripts.benchmarks.frame import Benchmark
from scripts.benchmarks.timing import peak_bytes


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


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for count, library in itertools.product(args.counts, LIBRARIES):
        command = [sys.executable, "-m", "scripts.benchmarks.evaluation", library]
        command += map(str, (count, args.dim, args.batch))
        result = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        yield json.loads(result.stdout.splitlines()[-1])


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 10_000, 50_000], help="features per side")
    parser.add_argument("--dim", type=int, default=2048, help="dimensions (default 2048)")
    parser.add_argument("--batch", type=int, default=64, help="vectors at once (default 64)")


TEXT = "{method}, {samples} samples: {frechet:.6g} in {seconds:.2f} s, {peak_mib:.0f} MiB"
BENCHMARK = Benchmark(__doc__, rows, ("batch",), TEXT, options)

if __name__ == "__main__":  # what `rows` starts
    library, *numbers = sys.argv[1:]
    print(json.dumps(measure(library, *map(int, numbers))))
