"""What checksums, hashes of weights and locks cost: a start, and runs of many images.

    python -m scripts.benchmarks trust --json out/trust.json     # some minutes on two cores

The cost is the share of a run's time that it spends inside the checks: the lock of the folder, the hashes of the
pipeline's weights, the settings and versions, the sweep for leftovers, the checksum of every chunk of measurements, and
the reading of every image file that is there already. A clock runs around exactly those functions, so the machine's
noise disturbs the share little. In addition there is the ratio to the same code with all of them replaced by no-ops;
both ways run in turns, in one process. Values are medians over rounds.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from unittest.mock import patch

from diffusion_guidance import RAAG, load_pipeline
from diffusion_guidance.cli import generate
from diffusion_guidance.core import files, locking
from diffusion_guidance.evaluation import identity, measure_setting, record, sampling, settings, store, study
from diffusion_guidance.evaluation import run as runs
from diffusion_guidance.evaluation.subjects import load_subject
from scripts.benchmarks.frame import Benchmark
from scripts.benchmarks.timing import interleaved, medians, ratio


Way = Callable[[], object]

#: Every check by its owner and name, and what does nothing in its place.
CHECKS: Mapping[tuple[object, str], Callable] = {
    (files.fcntl, "flock"): lambda handle, operation: None,
    (locking, "locked_folder"): lambda folder: contextlib.nullcontext(),
    (runs, "locked_for_all"): lambda folder, state: contextlib.nullcontext(),
    (settings, "keep_settings"): lambda folder, facts: None,
    (runs, "keep_settings"): lambda folder, facts: None,
    (identity, "pipeline_weights"): lambda pipe: {},
    (record, "pipeline_weights"): lambda pipe: {},
    (study, "pipeline_weights"): lambda pipe: {},
    (store, "_digest"): lambda arrays: "",
    (store, "sweep"): lambda folder: 0,
    (store.ChunkStore, "missing"): lambda chunks: chunks.chunks,
    (sampling, "sweep"): lambda folder: 0,
    (sampling, "image_size"): lambda path: None,
}


class Clock:
    """Seconds spent inside the functions that it times; one that another one calls counts once."""

    def __init__(self) -> None:
        self.seconds, self._depth = 0.0, 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        start, self._depth = time.perf_counter(), self._depth + 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self.seconds += time.perf_counter() - start

    def timed(self, function: Callable) -> Callable:
        """`function`; of a context manager that it returns, entering and leaving count, and not what is within."""

        def run(*args, **kwargs):
            with self.running():
                found = function(*args, **kwargs)
            return self._around(found) if isinstance(found, contextlib.AbstractContextManager) else found

        return run

    @contextlib.contextmanager
    def _around(self, manager: contextlib.AbstractContextManager) -> Iterator[object]:
        with contextlib.ExitStack() as stack:
            with self.running():
                entered = stack.enter_context(manager)
            yield entered
            with self.running():
                stack.close()


@contextlib.contextmanager
def replaced(checks: Mapping[tuple[object, str], Callable]) -> Iterator[None]:
    """Other functions in place of the checks."""
    with contextlib.ExitStack() as stack:
        for (owner, name), function in checks.items():
            stack.enter_context(patch.object(owner, name, function))
        yield


def with_and_without(way: Callable[[Path], object], shares: list[float]) -> dict[str, Way]:
    """`way` in a folder that is new each time: with the checks, whose share of the time is kept, and without them."""

    def run(checks: Mapping[tuple[object, str], Callable]) -> float:
        with tempfile.TemporaryDirectory() as folder, replaced(checks):
            start = time.perf_counter()
            way(Path(folder))
            return time.perf_counter() - start

    def checked() -> None:
        clock = Clock()
        whole = run({(owner, name): clock.timed(getattr(owner, name)) for owner, name in CHECKS})
        shares.append(clock.seconds / whole)

    return {"with": checked, "without": lambda: run(CHECKS)}


def starts(assets: Path) -> dict[str, Callable[[Path], object]]:
    """Loading the shapes pipeline, then hashes, settings and lock of a folder: the first time, and later ones."""

    def start(folder: Path) -> None:
        pipe = load_pipeline(str(assets / "shapes"))
        with locking.locked_folder(folder / "out"):
            settings.keep_settings(folder / "out", {"weights": identity.pipeline_weights(pipe)})

    def first(folder: Path) -> None:
        with patch.dict(os.environ, {"XDG_CACHE_HOME": str(folder)}):
            start(folder)

    return {"start, weights never hashed before": first, "start, weights hashed before": start}


def many(assets: Path, samples: int, batch: int) -> dict[str, Callable[[Path], object]]:
    """Images of the digits world, measured, and drawn as files."""
    pipe = load_pipeline(str(assets / "digits"))
    subject, seeds, call = load_subject("digits", assets), range(samples), {"num_inference_steps": 10}

    def evaluate(folder: Path) -> None:
        measure_setting(folder, pipe, subject, seeds, [RAAG(4, 8)], call, {}, measures=["frechet"], batch_size=batch)

    def draw(folder: Path) -> None:
        facts = record.drawing(pipe, [], call, "float32")
        with locking.locked_folder(folder), contextlib.redirect_stdout(None):
            generate.draw(folder, pipe, sampling.plan([3], seeds, folder), [RAAG(4, 8)], facts, batch, call)

    return {f"evaluate run, {samples} images": evaluate, f"generate, {samples} images": draw}


def measure(name: str, way: Callable[[Path], object], rounds: int) -> dict:
    shares: list[float] = []
    with open(os.devnull, "w") as silent, contextlib.redirect_stderr(silent):  # bars
        times = interleaved(with_and_without(way, shares), rounds)
    return row(name, shares[1:], times)  # without the warm-up


def row(name: str, shares: list[float], times: dict[str, list[float]]) -> dict:
    inside = [share * whole for share, whole in zip(shares, times["with"], strict=True)]
    low, share, high = statistics.quantiles(shares, n=4, method="inclusive")
    measured = {"check_ms": statistics.median(inside), "share": share, "share_quartiles": [low, high]}
    return {"what": name, **measured, **ratio("time_ratio", times["with"], times["without"]), **medians(times)}


def rows(args: argparse.Namespace) -> Iterator[dict]:
    for name, way in (starts(args.assets) | many(args.assets, args.samples, args.batch)).items():
        yield measure(name, way, args.rounds)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=1000, help="images of a run (default 1000)")
    parser.add_argument("--batch", type=int, default=50, help="images at once (default 50)")


TEXT = "{what}: {check_ms:.1f} of {with_ms:.1f} ms in checks, a share of {share:.4f}"
BENCHMARK = Benchmark(__doc__, rows, ("samples", "batch", "rounds"), TEXT, options, rounds=9)
