"""How well a classifier's probabilities hold on the estimates of a sampler, and the temperatures that mend them.

The classes that were asked for are the truth. Temperatures are fitted on one set of seeds and reported on another. The
report (--out) has a row a step for each of: no temperature, one temperature, a temperature of each step's own; all of
it for the classifier off the shelf and, where it has activations to smooth, for its smooth copy, which is the one that
guides. Beside it stand the reliability diagrams of the one that guides. What was sampled is kept in --work, so a killed
run goes on where it stopped. About a minute on two cores:

    diffusion-guidance calibrate
    diffusion-guidance calibrate MODEL torchvision:resnet50 --transform imagenet --classes 207,360 --samples 200
    diffusion-guidance calibrate MODEL open_clip:ViT-B-32:openai --prompts prompts.txt --save-guidance elucd.json

With --prompts the class of a picture is the number of its prompt, and the classifier is told the prompts. The file of
--save-guidance is a configuration of `ClassifierGuidance`, for generate.py's --guidance-file.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import torch

from .. import (
    CalibrationTrace,
    ClassifierGuidance,
    attach,
    fit_temperatures,
    load_classifier,
    load_pipeline,
    save_guidance,
    to_config,
)
from ..evaluation.report import describe_run, markdown_table, write_report
from ..evaluation.run import collect
from ..evaluation.sampling import generators
from ..methods.classifier.calibration_trace import calibration_rows
from ..methods.classifier.temperatures import calibration, fit_temperature, reliability_plot
from .arguments import read_prompts


DIGITS = "pretrained:diffusion_guidance.worlds.DigitsClassifier:assets/digits-classifier"
OFF_THE_SHELF, SMOOTH = "off the shelf", "smooth"
COLUMNS = ("classifier", "temperature", "tau", "step", "sigma", "ece", "ece_adaptive", "brier", "nll", "accuracy")


def parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument(
        "pipeline", nargs="?", default="assets/digits", help="directory or hub id (default assets/digits)"
    )
    parse.add_argument(
        "classifier", nargs="?", default=DIGITS, help="see diffusion_guidance.load_classifier (default: of digits)"
    )
    parse.add_argument("--transform", choices=("authors", "imagenet", "clip"), help="default: the classifier's own")
    what = parse.add_mutually_exclusive_group()
    what.add_argument(
        "--classes", metavar="IDS", help="class ids asked for in rotation (default: all of the pipeline's)"
    )
    what.add_argument("--prompts", type=Path, metavar="FILE", help="prompts, one a line, asked for in rotation")
    parse.add_argument("--samples", type=int, default=1000, help="pictures to fit on, and as many to report on")
    parse.add_argument("--steps", type=int, default=50, help="denoising steps (default 50)")
    parse.add_argument("--weight", type=float, default=1.0, help="the pipeline's guidance_scale (default 1: none)")
    parse.add_argument("--softplus", type=float, help="as in ClassifierGuidance (default: its own)")
    parse.add_argument("--ratio", type=float, default=0.5, help="tau_marginal / tau_joint (default 0.5)")
    parse.add_argument("--batch-size", type=int, default=250)
    parse.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parse.add_argument("--device", help="default: cuda where there is one, else cpu")
    parse.add_argument("--out", type=Path, default=Path("docs/results/calibration.json"))
    parse.add_argument("--work", type=Path, default=Path("out/calibrate"), help="logits of what was sampled")
    parse.add_argument("--save-guidance", type=Path, metavar="FILE", help="JSON of the calibrated guidance")
    return parse


def draw(pipe, traces: dict[str, CalibrationTrace], asked: list, seeds, **call):
    """Pictures of `seeds`, whose conditions are `asked` in rotation, and the logits (B, steps, K) of each trace.

    The class of a picture is its condition, or the number of its prompt.
    """
    conditions = [asked[seed % len(asked)] for seed in seeds]
    name = "class_labels" if isinstance(conditions[0], int) else "prompt"
    for trace in traces.values():
        trace.clear()
        trace.labels = [condition if name == "class_labels" else asked.index(condition) for condition in conditions]
    with attach(pipe, list(traces.values())):
        images = pipe(**{name: conditions}, generator=generators(seeds), output_type="pt", **call).images
    arrays = {key: trace.collected()[0].transpose(0, 1).contiguous() for key, trace in traces.items()}
    levels = torch.tensor([list(level.values()) for level in trace.levels()], dtype=torch.float64)
    levels = levels.expand(len(seeds), -1, -1).contiguous()  # the same for all, so that they are kept too
    return images, arrays | {"labels": trace.collected()[1], "levels": levels}


def report(fitted: tuple, held_out: tuple, levels: list[dict], **facts) -> list[dict]:
    """Rows of the held-out set, before and after fitting on the other; those without a step are of all steps."""
    tau = fit_temperature(*fitted)
    own = [fit_temperature(values, fitted[1]) for values in fitted[0]]
    logits, labels = held_out
    rows = []
    for name, factor in (("none", 1.0), ("one", tau), ("one a step", own)):
        single = None if isinstance(factor, list) else factor
        scaled = torch.tensor(factor, dtype=torch.float64).reshape(-1, 1, 1) * logits
        whole = {"step": None, "tau": single, "samples": len(labels), **calibration(scaled, labels)}
        rows += [facts | {"temperature": name} | row for row in (whole, *calibration_rows(levels, *held_out, factor))]
    return rows


def plot(path: Path, held_out: tuple, tau: float) -> None:
    """Reliability diagrams of all steps, of the first fifth and of the last."""
    logits, labels = held_out
    part = max(1, len(logits) // 5)
    panels = {"all steps": logits, "first fifth of the steps": logits[:part], "last fifth of the steps": logits[-part:]}
    curves = {
        title: {"as it is": (values, labels), f"tau {tau:.3g}": (tau * values, labels)}
        for title, values in panels.items()
    }
    reliability_plot(path, curves)


def table(rows: list[dict], every: int = 10) -> str:
    """All steps together; then, of the classifier that guides, every so many steps and the last one."""
    guides, last = rows[-1]["classifier"], rows[-1]["step"]
    shown = [row | {"step": "all"} for row in rows if row["step"] is None]
    for row in rows:
        if (
            row["classifier"] == guides
            and row["step"] is not None
            and (row["step"] % every == 0 or row["step"] == last)
        ):
            shown.append(row)
    return markdown_table(shown, COLUMNS, 3)


def document(meta: dict, rows: list[dict]) -> str:
    """The table with what it rests on."""
    facts = f"{meta['samples']} pictures to fit on, {meta['samples']} others here; {meta['steps']} DDPM steps.\n\n"
    return facts + table(rows)


def run(args: argparse.Namespace) -> None:
    pipe, spec = load_pipeline(args.pipeline, args.dtype, args.device), {"spec": args.classifier}
    if args.prompts:
        spec["classes"] = asked = read_prompts(args.prompts)
    elif args.classes:
        asked = [int(part) for part in args.classes.split(",")]
    else:
        asked = list(range(pipe.transformer.config.num_embeds_ada_norm))
    if args.transform:
        spec["transform"] = args.transform
    classifier = load_classifier(**spec, device=pipe.device)
    guide = ClassifierGuidance(classifier, softplus=args.softplus)
    traces = {OFF_THE_SHELF: CalibrationTrace(classifier)}
    if guide.replaced:
        traces[SMOOTH] = CalibrationTrace(guide.classifier)

    call = {"num_inference_steps": args.steps, "guidance_scale": args.weight}
    facts = {"pipeline": args.pipeline, "classifier": classifier.identity(), "softplus": args.softplus}
    settings = {**facts, "conditions": asked, "call": call, "dtype": args.dtype}
    sets = {}
    for name, start in (("fit", 0), ("report", args.samples)):
        seeds, size = range(start, start + args.samples), args.batch_size
        sample = partial(draw, pipe, traces, asked, **call)
        sets[name] = collect(args.work / name, seeds, sample, lambda *_: {}, settings, size, chunk=size)
    levels = [
        dict(zip(("step", "timestep", "alpha", "sigma"), (int(row[0]), *row[1:]), strict=True))
        for row in sets["fit"].array("levels")[0].tolist()
    ]
    rows = []
    for key in traces:  # the last is the one that guides
        fitted, held_out = (
            (torch.from_numpy(store.array(key)).transpose(0, 1), torch.from_numpy(store.array("labels")))
            for store in sets.values()
        )
        rows += report(fitted, held_out, levels, classifier=key)
    temperatures = fit_temperatures(*fitted, args.ratio)
    short = args.classifier if spec.keys() == {"spec"} else spec
    guidance = ClassifierGuidance(short, softplus=args.softplus, **temperatures)
    facts |= {"samples": args.samples, "steps": args.steps, "guidance": to_config(guidance)}
    facts["seeds"] = {"fit": f"0-{args.samples - 1}", "report": f"{args.samples}-{2 * args.samples - 1}"}
    write_report(args.out, describe_run(**facts), rows)
    plot(args.out.with_suffix(".png"), held_out, temperatures["tau_joint"])
    if args.save_guidance:
        save_guidance(args.save_guidance, guidance)
    print(table(rows))
    print(f"{guidance}\n{args.out} and {args.out.with_suffix('.png')}")


def main() -> None:
    args = parser().parse_args()
    try:
        run(args)
    except (ValueError, OSError) as error:
        sys.exit(f"calibrate.py: {error}")


if __name__ == "__main__":
    main()
