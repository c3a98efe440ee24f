"""How much time does attached RAAG take, against the plain pipeline and against Modular Diffusers?

Each family runs in several ways on the same random weights and the same noise, one after the other in every round, in
rotating order; the result is the median over the rounds of the ratio of two times of one round. The networks are small,
so fixed costs are a smaller share for a real one. About five minutes on two cores.
"""

import argparse
from collections.abc import Iterator

import diffusers
import torch
from diffusers.guiders import BaseGuidance, MagnitudeAwareGuidance

from diffusion_guidance import RAAG, CallbackGuider, attach
from scripts.benchmarks.frame import Benchmark
from scripts.benchmarks.random_pipelines import BENCHES, SIZES
from scripts.benchmarks.timing import interleaved, medians, ratio


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
    """One row: times of each way, medians of paired ratios, and how far the results lie apart."""
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
    times = interleaved(ways, args.rounds)
    return {
        "family": name,
        "batched": bench.batched,
        "modular_guider": type(guider).__name__,
        **ratio("time_ratio", times["attached"], times["plain"]),
        **ratio("time_ratio_to_modular", times["attached"], times["modular"]),
        **medians(times),
        "difference_to_modular": difference(attached(), ways["modular"]()),
    }


def difference(result: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference of the two sets of latents, relative to the largest latent."""
    values = [latents.double().flatten().sort().values for latents in (result, expected)]  # packed or not
    return float((values[0] - values[1]).abs().max() / values[1].abs().max())


def rows(args: argparse.Namespace) -> Iterator[dict]:
    if args.steps < 1:
        raise SystemExit("--steps must be at least 1")
    diffusers.logging.set_verbosity_error()
    return (measure(name, args) for name in args.families)


FAMILIES = [name for name, bench in BENCHES.items() if bench.blocks]  # with a modular counterpart


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES, help="default: all")
    parser.add_argument("--size", choices=SIZES, default="small", help="of the networks (default: small)")
    parser.add_argument("--steps", type=int, default=4, help="sampling steps a call (default: 4)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of the weights")


FACTS = ("dtype", "size", "steps", "rounds", "device")
TEXT = "{family}: attached / plain {time_ratio:.3f}, attached / modular ({modular_guider}) {time_ratio_to_modular:.3f}"
BENCHMARK = Benchmark(__doc__, rows, FACTS, TEXT, options, rounds=30)
