"""Run diffusers' own tests of the pipelines that ours are derived from: on the stock classes, and on ours.

    git clone --depth 1 https://github.com/huggingface/diffusers DIFFUSERS
    python -m scripts.studies.upstream_tests DIFFUSERS --json docs/results/upstream.json

Those tests ship with diffusers' repository only. They load tokenizers and a configuration from the Hub by name; here
each name is a local folder that is found first. So no network is needed, and the few tests that compare with values
printed for the published vocabularies fail, on the stock class as on ours. The third way also attaches guidance to
every call: the pipeline's own formula, computed again from the two predictions, so that every expectation of the tests
must still hold.
"""

import argparse
import functools
import multiprocessing
import os
import sys
import tempfile
import types
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import diffusers
import pytest
import torch
from transformers import CLIPTokenizer, Qwen2Tokenizer, T5Config, T5Tokenizer

from diffusion_guidance import pipelines
from diffusion_guidance.core.combine import classifier_free_guidance
from diffusion_guidance.evaluation import describe_run, markdown_table, read_report, write_report


#: Our class, and the files with the tests of the one that it is derived from, under tests/pipelines.
CASES = {
    "GuidedDiTPipeline": ["dit/test_dit.py"],
    "GuidedStableDiffusion3Pipeline": ["stable_diffusion_3/test_pipeline_stable_diffusion_3.py"],
    "GuidedStableDiffusionXLPipeline": ["stable_diffusion_xl/test_stable_diffusion_xl.py"],
    "GuidedQwenImagePipeline": ["qwenimage/test_qwenimage.py"],
    "GuidedWanPipeline": ["wan/test_wan.py", "wan/test_wan_22.py"],
}
WAYS = ("stock class", "ours", "ours, attached")


def recombine(step, proceed):
    """The pipeline's own guidance, made of the two predictions."""
    if not step.has_unconditional:
        return proceed(step)
    return classifier_free_guidance(step.cond, step.uncond, step.pipeline_weight)


def guided(call):
    """A pipeline's `__call__` that is always given guidance."""

    @functools.wraps(call)
    def with_guidance(self, *args, **kwargs):
        return call(self, *args, guidance=recombine, **kwargs)

    return with_guidance


def make_hub(folder: Path) -> None:
    """Write to `folder` what the tests load from the Hub, under the same names."""
    owner = folder / "hf-internal-testing"
    # What QwenImage puts before a prompt, since it drops as many tokens as the published vocabulary makes of that.
    texts = [
        diffusers.QwenImagePipeline(*[None] * 5).prompt_template_encode,
        "A painting of a squirrel eating a burger",
    ]

    def trained(kind: type):
        return kind().train_new_from_iterator(texts * 3, 1000, show_progress=False)

    clip = trained(CLIPTokenizer)
    clip.model_max_length = 77
    clip.save_pretrained(owner / "tiny-random-clip")
    trained(T5Tokenizer).save_pretrained(owner / "tiny-random-t5")
    T5Config(
        vocab_size=1103, d_model=32, d_kv=8, d_ff=37, num_layers=5, num_heads=4, relative_attention_num_buckets=8
    ).save_pretrained(owner / "tiny-random-t5")
    trained(Qwen2Tokenizer).save_pretrained(owner / "tiny-random-Qwen2VLForConditionalGeneration")


class Outcomes:
    """A plugin of pytest: runs the tests whose `pipeline_class` is `stock` on `kind`, and counts."""

    def __init__(self, stock: type, kind: type):
        self.stock, self.kind = stock, kind
        self.names: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": []}

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = [item for item in items if getattr(item.cls, "pipeline_class", None) is self.stock]

    def pytest_runtest_setup(self, item) -> None:
        item.cls.pipeline_class = self.kind
        setattr(item.module, self.stock.__name__, self.kind)  # some tests call the class by its name

    def pytest_runtest_logreport(self, report) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.names[report.outcome].append("::".join(report.nodeid.split("::")[1:]))


def stock_of(name: str) -> type:
    """The class of diffusers that our class `name` is derived from."""
    return next(base for base in getattr(pipelines, name).__mro__ if base.__module__.startswith("diffusers."))


def run(checkout: Path, name: str, way: str) -> dict:
    """One row: how many of the tests of `name` passed, failed and were skipped, and which failed."""
    kind, stock = getattr(pipelines, name), stock_of(name)
    if way == "ours, attached":
        kind.__call__ = guided(kind.__call__)
    setattr(diffusers.pipelines, name, kind)  # where one of the tests looks for the class, to read its source
    outcomes = Outcomes(stock, stock if way == "stock class" else kind)
    files = [str(checkout / "tests" / "pipelines" / file) for file in CASES[name]]
    quiet = ["-q", "-p", "no:cacheprovider", "--rootdir", str(checkout), "--tb", "line", "-W", "ignore"]
    code = pytest.main([*files, *quiet], plugins=[outcomes])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) or not outcomes.names["passed"]:
        raise SystemExit(f"the tests of {stock.__name__} did not run; is {checkout} a checkout of diffusers?")
    counts = {outcome: len(names) for outcome, names in outcomes.names.items()}
    return {"pipeline": stock.__name__, "class": way, **counts, "failures": sorted(outcomes.names["failed"])}


def alone(hub: Path, checkout: Path, name: str, way: str) -> dict:
    """`run` in a process of its own, since upstream's tests keep results on their classes, in the folder `hub`."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=_enter, initargs=(hub,)) as pool:
        return pool.submit(run, checkout, name, way).result()


def _enter(hub: Path) -> None:
    os.chdir(hub)
    # Their tests of models, of which those of pipelines import some, import it; no test that is run here uses it.
    sys.modules.setdefault("requests_mock", types.ModuleType("requests_mock"))
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))


def table(rows: Sequence[dict]) -> str:
    """The counts, one line per run."""
    return markdown_table(rows, ("pipeline", "class", "passed", "failed", "skipped"))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="a checkout of diffusers' repository, near the installed version")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--pipelines", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    args = parser.parse_args(argv)
    os.environ["HF_HUB_OFFLINE"] = "1"
    order, rows = [stock_of(name).__name__ for name in CASES], []
    if args.json and args.json.exists():  # of the others, where not all were asked for
        asked = [stock_of(name).__name__ for name in args.pipelines]
        rows = [row for row in read_report(args.json)[1] if row["pipeline"] not in asked]
    with tempfile.TemporaryDirectory() as hub:
        make_hub(Path(hub))  # once: training breaks ties by chance, and all ways should see the same vocabulary
        for name in args.pipelines:
            for way in WAYS:
                rows.append(alone(Path(hub), args.checkout.resolve(), name, way))
                print(rows[-1], flush=True)
    if args.json:
        rows.sort(key=lambda row: order.index(row["pipeline"]))
        print(write_report(args.json, describe_run(), rows))


if __name__ == "__main__":
    main()
