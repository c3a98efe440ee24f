"""What checksums, hashes of weights and locks cost: a start, and runs of many images, with and without them.

    python -m scripts.benchmarks trust --json out/trust.json     # some minutes on two cores

"Without" is the same code with every check replaced by nothing: the lock of the folder, the hashes of the pipeline's
weights, the checksum of every chunk of measurements, and the reading of every image file that is there already. Both
ways run in turns, in one process, and the ratio is the median over rounds.
"""

import argparse
import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from unittest.mock import patch

from diffusion_guidance import RAAG, load_pipeline
from diffusion_guidance.core.locking import locked_folder
from diffusion_guidance.evaluation import describe_run, identity, measure_setting, sampling, store, study, write_report
from diffusion_guidance.evaluation import run as runs
from diffusion_guidance.evaluation.settings import keep_settings
from diffusion_guidance.worlds.subjects import load_subject
from scripts.benchmarks.timing import interleaved, machine, medians, ratio


Way = Callable[[], object]


@contextlib.contextmanager
def without_checks() -> Iterator[None]:
    """Nothing is locked, hashed, or read again."""
    nothing = {
        (runs, "locked_for_all"): lambda *_: contextlib.nullcontext(),
        (study, "pipeline_weights"): lambda _: {},
        (store, "_digest"): lambda _: "",
        (sampling, "image_size"): lambda path: (8, 8) if path.exists() else None,
    }
    with contextlib.ExitStack() as stack:
        for (module, name), instead in nothing.items():
            stack.enter_context(patch.object(module, name, instead))
        yield


def fresh(way: Callable[[Path], object]) -> Way:
    """`way` in a folder that is new each time."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            way(Path(folder))

    return run


def plain(way: Way) -> Way:
    """`way` without checks."""

    def run() -> None:
        with without_checks():
            way()

    return run


def starts(assets: Path, caches: Path) -> dict[str, dict[str, Way]]:
    """Loading a pipeline, then the hashes, the settings and the lock of a folder: the first time, and later ones."""
    name = str(assets / "shapes")

    def checked(folder: Path, cache: Path | None) -> None:
        with patch.dict(os.environ, {"XDG_CACHE_HOME": str(cache or folder / "cache")}), locked_folder(folder / "out"):
            keep_settings(folder / "out", {"weights": identity.pipeline_weights(load_pipeline(name))})

    without = partial(load_pipeline, name)
    return {
        "start, weights never hashed before": {"with": fresh(partial(checked, cache=None)), "without": without},
        "start, weights hashed before": {"with": fresh(partial(checked, cache=caches)), "without": without},
    }


def many(assets: Path, samples: int, batch: int) -> dict[str, dict[str, Way]]:
    """Images of the digits world, measured and as files, and the same folder of files when all are there."""
    pipe = load_pipeline(str(assets / "digits"))
    pipe.set_progress_bar_config(disable=True)
    subject, seeds = load_subject("digits", assets), range(samples)

    def evaluate(folder: Path) -> None:
        call = {"num_inference_steps": 10}
        measure_setting(folder, pipe, subject, seeds, [RAAG(4, 8)], call, {}, measures=["frechet"], batch_size=batch)

    def draw(folder: Path) -> None:
        jobs = sampling.plan([3], seeds, folder)
        with locked_folder(folder) if runs.locked_for_all is LOCK else contextlib.nullcontext():
            for _ in sampling.generate(pipe, jobs, [RAAG(4, 8)], batch, num_inference_steps=10):
                pass

    ways = {"evaluate run": fresh(evaluate), "generate": fresh(draw)}
    return {f"{name}, {samples} images": {"with": way, "without": plain(way)} for name, way in ways.items()}


LOCK = runs.locked_for_all


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000, help="images of a run (default 1000)")
    parser.add_argument("--batch", type=int, default=50, help="images at once (default 50)")
    parser.add_argument("--rounds", type=int, default=9, help="of both ways, in turns (default 9)")
    parser.add_argument("--assets", type=Path, default=Path("assets"))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as caches, open(os.devnull, "w") as silent:
        for name, ways in (starts(args.assets, Path(caches)) | many(args.assets, args.samples, args.batch)).items():
            with contextlib.redirect_stderr(silent):  # bars
                for way in ways.values():
                    way()
                times = interleaved(ways, args.rounds)
            rows.append({"what": name, **ratio("time_ratio", times["with"], times["without"]), **medians(times)})
            print(f"{name}: ratio {rows[-1]['time_ratio']:.4f} to {rows[-1]['without_ms']:.1f} ms without checks")
    if args.json:
        facts = {"rounds": args.rounds, "samples": args.samples, "batch": args.batch, **machine()}
        print(write_report(args.json, describe_run(**facts), rows))


if __name__ == "__main__":
    main()
