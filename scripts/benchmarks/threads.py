"""One network in many threads, each with a pipeline of its own, guided or not: are all results the undisturbed ones?

    python -m scripts.benchmarks threads --json out/threads.json     # a minute on two cores

Every call attaches and detaches. The callbacks of the threads differ: none, CFG at another weight, RAAG, and DiffIER,
which evaluates the network once more. What each gives alone is drawn before any thread starts; `equal` counts the calls
of all threads that give the same bits.
"""

import argparse
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext

import diffusers
import torch

from diffusion_guidance import CFG, RAAG, DiffIER, attach
from scripts.benchmarks.frame import Benchmark
from scripts.benchmarks.random_pipelines import BENCHES, SIZES


STEPS, WEIGHT = 2, 5.0
GUIDED: tuple[Callable[[], object], ...] = (lambda: CFG(2.0), lambda: RAAG(w_max=10, alpha=8), DiffIER)
WHO = {"none": (None,), "every second": (None, *GUIDED[:1]), "three of four": (None, *GUIDED), "all": GUIDED}


def sibling(pipe: diffusers.DiffusionPipeline) -> diffusers.DiffusionPipeline:
    """Another pipeline with the same networks and a scheduler of its own."""
    other = type(pipe)(**pipe.components | {"scheduler": type(pipe.scheduler).from_config(pipe.scheduler.config)})
    other.set_progress_bar_config(disable=True)
    return other


def draw(pipe: diffusers.DiffusionPipeline, inputs: dict, callback: Callable[[], object] | None) -> torch.Tensor:
    options = {"num_inference_steps": STEPS, "output_type": "latent", "guidance_scale": WEIGHT}
    with nullcontext() if callback is None else attach(pipe, callback()):
        return pipe(**inputs | options, generator=torch.Generator().manual_seed(0))[0]


def run(pipe: diffusers.DiffusionPipeline, inputs: dict, who: tuple, count: int, calls: int) -> Counter:
    """How many calls of `count` threads were equal, different, or failed."""
    callbacks = [who[number % len(who)] for number in range(count)]
    pipes = [sibling(pipe) for _ in callbacks]
    alone = [draw(own, inputs, callback) for own, callback in zip(pipes, callbacks, strict=True)]
    found: list[str] = []  # appending is safe in threads, and counting is not
    start = threading.Barrier(count)

    def work(number: int) -> None:
        start.wait()
        for _ in range(calls):
            try:
                equal = torch.equal(draw(pipes[number], inputs, callbacks[number]), alone[number])
            except Exception as error:
                found.append(f"failed: {type(error).__name__}")
            else:
                found.append("equal" if equal else "different")

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(found)


def rows(args: argparse.Namespace) -> Iterator[dict]:
    torch.set_num_threads(1)
    for name in ("StableDiffusion3", "Wan"):
        torch.manual_seed(0)
        pipe, inputs = BENCHES[name].build(SIZES["tiny"]), BENCHES[name].inputs(SIZES["tiny"])
        for count in args.threads:
            for label, who in WHO.items():
                found = run(pipe, inputs, who, count, args.calls)
                all_calls, equal = found.total(), found.pop("equal", 0)
                others = ", ".join(f"{number} {kind}" for kind, number in sorted(found.items()))
                of = {"network": f"{name}, tiny", "threads": count, "guided": label}
                yield of | {"calls": all_calls, "equal": equal, "others": others or None}


def options(parser: argparse.ArgumentParser) -> None:
    text = "how many at once (default: 2 4 8)"
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 4, 8], metavar="N", help=text)
    parser.add_argument("--calls", type=int, default=200, metavar="N", help="of each thread (default %(default)s)")


TEXT = "{network}, {threads} threads, guided: {guided}: {equal} of {calls} equal"
BENCHMARK = Benchmark(__doc__, rows, ("calls",), TEXT, options)
