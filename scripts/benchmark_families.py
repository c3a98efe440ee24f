"""How much time does attached RAAG take, against the plain pipeline and against Modular Diffusers?

Each family runs in several ways on the same random weights and the same noise, one after the other in every round, the
order turning; what is reported is the median, over the rounds, of the ratio of two times of the same round. The
networks are small, so a real one is loaded less by what does not depend on its size.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict

import diffusers
import torch
from diffusers.guiders import BaseGuidance, MagnitudeAwareGuidance
from random_pipelines import BENCHES, SIZES

from guidance import RAAG, CallbackGuider, attach
from guidance.files import write_json


W_MAX, ALPHA = 6.0, 3.0


def modular(blocks: str, pipe: diffusers.DiffusionPipeline, guider: BaseGuidance) -> diffusers.ModularPipeline:
    """The modular pipeline of the components, and so the weights, of `pipe`, from embeddings to latents."""
    chosen = getattr(diffusers, blocks)()
    for name in ("text_encoder", "decode"):
        chosen.sub_blocks.pop(name, None)
    _silence(chosen)  # a bar that only one of the ways draws would count against it
    other = chosen.init_pipeline()
    shared = {key: part for key, part in pipe.components.items() if key in other.component_names and part is not None}
    other.update_components(**shared, guider=guider)
    return other


def _silence(block) -> None:
    if hasattr(block, "set_progress_bar_config"):
        block.set_progress_bar_config(disable=True)
    for inner in getattr(block, "sub_blocks", {}).values():
        _silence(inner)


def measure(name: str, args: argparse.Namespace) -> dict:
    """One row: seconds of each way, medians of paired ratios, and how far the results lie apart."""
    bench, size = BENCHES[name], SIZES[args.size]
    torch.manual_seed(0)
    dtype = getattr(torch, args.dtype)
    pipe = bench.build(size).to(args.device, dtype)
    common = {"num_inference_steps": args.steps}
    for key, value in bench.inputs(size).items():
        if isinstance(value, torch.Tensor):
            value = value.to(args.device, dtype if value.is_floating_point() else value.dtype)
        common[key] = value
    guider = MagnitudeAwareGuidance(W_MAX, alpha=ALPHA) if bench.packed else CallbackGuider(RAAG(W_MAX, ALPHA))
    other = modular(bench.blocks, pipe, guider)
    pipe.set_progress_bar_config(disable=True)
    of_modular = {key: value for key, value in common.items() if not key.endswith("_scale")}

    def plain() -> torch.Tensor:
        return pipe(**common, output_type="latent", return_dict=False)[0]

    def attached() -> torch.Tensor:
        with attach(pipe, RAAG(W_MAX, ALPHA)):
            return plain()

    ways = {"plain": plain, "attached": attached, "modular": lambda: other(**of_modular, output="latents")}
    results = {way: run() for way, run in ways.items()}  # a warm-up too
    seconds = interleaved(ways, args.rounds, args.device)
    return {
        "family": name,
        "batched": bench.batched,
        "modular_guider": type(guider).__name__,
        "seconds": {way: statistics.median(times) for way, times in seconds.items()},
        "attached_over_plain": ratio(seconds["attached"], seconds["plain"]),
        "attached_over_modular": ratio(seconds["attached"], seconds["modular"]),
        "attached_against_modular_difference": difference(results["attached"], results["modular"]),
    }


def interleaved(ways: dict[str, Callable], rounds: int, device: str) -> dict[str, list[float]]:
    """Seconds of each way in each round; every round runs all of them, beginning with the next."""
    seconds = {way: [] for way in ways}
    names = list(ways)
    for turn in range(rounds):
        first = turn % len(names)
        for way in names[first:] + names[:first]:
            _wait(device)
            start = time.perf_counter()
            ways[way]()
            _wait(device)
            seconds[way].append(time.perf_counter() - start)
    return seconds


def ratio(times: list[float], reference: list[float]) -> dict[str, float]:
    """Median and quartiles of the ratios of times that belong together."""
    ratios = [one / other for one, other in zip(times, reference, strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {"median": median, "lower_quartile": low, "upper_quartile": high}


def difference(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference of the two sets of latents, relative to the largest latent."""
    values = [latents.double().flatten().sort().values for latents in (result, expected)]  # packed or not
    return float((values[0] - values[1]).abs().max() / values[1].abs().max())


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", required=True, metavar="FILE", help="where to write the rows")
    parser.add_argument("--families", nargs="+", choices=BENCHES, default=list(BENCHES), help="default: all")
    parser.add_argument("--size", choices=SIZES, default="small", help="of the networks (default: small)")
    parser.add_argument("--steps", type=int, default=4, help="sampling steps a call (default: 4)")
    parser.add_argument("--rounds", type=int, default=30, help="rounds, each with every way (default: 30; at least 2)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the weights")


def run(args: argparse.Namespace) -> dict:
    """Measure and write what `add_arguments` asked for."""
    if args.rounds < 2 or args.steps < 1:
        raise SystemExit("--rounds must be at least 2 and --steps at least 1")
    diffusers.logging.set_verbosity_error()
    on_gpu = args.device.startswith("cuda")
    report = {
        "device": torch.cuda.get_device_name(args.device) if on_gpu else platform.processor() or platform.machine(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "dtype": args.dtype,
        "size": asdict(SIZES[args.size]),
        "steps": args.steps,
        "rounds": args.rounds,
        "rows": [],
    }
    for name in args.families:
        row = measure(name, args)
        report["rows"].append(row)
        print(
            f"{name}: attached / plain {row['attached_over_plain']['median']:.3f}, "
            f"attached / modular ({row['modular_guider']}) {row['attached_over_modular']['median']:.3f}",
            flush=True,
        )
        write_json(args.json, report)  # after each, so that a run cut short leaves what it has
    return report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    run(parser.parse_args(argv))


if __name__ == "__main__":
    main()
