"""How well a classifier's probabilities hold on the estimates of a sampler, and the temperatures that mend them.

The classes that were asked for are the truth. Temperatures are fitted on one set of seeds and reported on another. The
report (--out) has a row a step for each of: the classifier as it is, with one temperature, with a temperature of each
step's own; beside it stands a reliability diagram. What was sampled is kept in --work, so a killed run goes on where it
stopped. About two minutes on two cores:

    python scripts/calibrate.py
    python scripts/calibrate.py MODEL torchvision:resnet50 --transform imagenet --classes 207,360 --samples 200
    python scripts/calibrate.py MODEL open_clip:ViT-B-32:openai --prompts prompts.txt --save-guidance elucd.json

With --prompts the class of a picture is the number of its prompt, and the classifier is told the prompts. The file of
--save-guidance is a configuration of `ClassifierGuidance`, for generate.py's --guidance-file.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

import pipelines
from guidance import CalibrationTrace, attach, fit_temperatures, load_classifier
from guidance.calibration import calibration, fit_temperature, reliability_plot
from guidance.calibration_trace import calibration_rows
from guidance.evaluation.report import describe_run, markdown_table, write_report
from guidance.evaluation.run import collect
from guidance.files import write_json
from guidance.generation import generators, load_pipeline


DIGITS = "pretrained:guidance.worlds.digits_classifier.DigitsClassifier:assets/digits-classifier"
COLUMNS = ("method", "tau", "step", "sigma", "ece", "ece_adaptive", "brier", "nll", "accuracy", "confidence")


def parser() -> argparse.ArgumentParser:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument(
        "pipeline", nargs="?", default="assets/digits", help="directory or hub id (default assets/digits)"
    )
    parse.add_argument(
        "classifier", nargs="?", default=DIGITS, help="see guidance.load_classifier (default: of digits)"
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
    parse.add_argument("--ratio", type=float, default=0.5, help="tau_marginal / tau_joint (default 0.5)")
    parse.add_argument("--batch-size", type=int, default=250)
    parse.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), default="float32")
    parse.add_argument("--device", help="default: cuda where there is one, else cpu")
    parse.add_argument("--out", type=Path, default=Path("docs/results/calibration.json"))
    parse.add_argument("--work", type=Path, default=Path("out/calibrate"), help="logits of what was sampled")
    parse.add_argument("--save-guidance", type=Path, metavar="FILE", help="JSON of the calibrated guidance")
    return parse


def load(args: argparse.Namespace):
    """The pipeline; of our own class where it was saved as one."""
    kind = getattr(pipelines, DiffusionPipeline.load_config(args.pipeline)["_class_name"], DiffusionPipeline)
    return load_pipeline(args.pipeline, args.dtype, args.device, kind.from_pretrained)


def draw(pipe, trace: CalibrationTrace, asked: list, numbers: list[int], seeds, **call):
    """Pictures of `seeds`, whose conditions are `asked` in rotation, and for each its logits at every step."""
    conditions = [asked[seed % len(asked)] for seed in seeds]
    name = "class_labels" if isinstance(conditions[0], int) else "prompt"
    trace.clear()
    trace.labels = [numbers[seed % len(asked)] for seed in seeds]
    with attach(pipe, trace):
        images = pipe(**{name: conditions}, generator=generators(seeds), output_type="pt", **call).images
    logits, labels = trace.collected()
    levels = torch.tensor([list(level.values()) for level in trace.levels()])
    return images, {
        "logits": logits.transpose(0, 1).contiguous(),
        "labels": labels,
        "levels": levels.expand(len(seeds), -1, -1).contiguous(),
    }


def report(fitted: tuple, held_out: tuple, levels: list[dict]) -> list[dict]:
    """Rows of the held-out set, before and after fitting on the other; those without a step are of all steps."""
    tau = fit_temperature(*fitted)
    own = [fit_temperature(values, fitted[1]) for values in fitted[0]]
    logits, labels = held_out
    rows = []
    for method, factor in (("as it is", 1.0), ("one temperature", tau), ("one a step", own)):
        factors = torch.tensor(factor, dtype=torch.float64).reshape(-1, 1, 1)
        single = None if isinstance(factor, list) else factor
        whole = {"method": method, "step": None, "tau": single, "samples": len(labels)}
        rows.append(whole | calibration(factors * logits, labels))
        rows += [{"method": method, **row} for row in calibration_rows(levels, logits, labels, factor)]
    return rows


def plot(path: Path, held_out: tuple, tau: float) -> None:
    logits, labels = held_out
    part = max(1, len(logits) // 5)
    panels = {"all steps": logits, "first fifth of the steps": logits[:part], "last fifth": logits[-part:]}
    reliability_plot(
        path,
        {
            title: {"as it is": (values, labels), f"tau {tau:.3f}": (tau * values, labels)}
            for title, values in panels.items()
        },
    )


def table(rows: list[dict], every: int = 10) -> str:
    """All steps together, then every so many steps and the last one."""
    last = max(row["step"] for row in rows if row["step"] is not None)
    shown = [row for row in rows if row["step"] is None]
    shown += [row for row in rows if row["step"] is not None and (row["step"] % every == 0 or row["step"] == last)]
    return markdown_table([row | {"step": "all" if row["step"] is None else row["step"]} for row in shown], COLUMNS, 3)


def run(args: argparse.Namespace) -> None:
    pipe, spec = load(args), {"spec": args.classifier}
    if args.prompts:
        asked = [line.strip() for line in args.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
        numbers, spec["classes"] = list(range(len(asked))), asked
    elif args.classes:
        asked = numbers = [int(part) for part in args.classes.split(",")]
    else:
        asked = numbers = list(range(pipe.transformer.config.num_embeds_ada_norm))
    if args.transform:
        spec["transform"] = args.transform
    classifier = load_classifier(**spec, device=pipe.device)
    call = {"num_inference_steps": args.steps, "guidance_scale": args.weight}
    settings = {"pipeline": args.pipeline, "classifier": classifier.identity(), "conditions": asked, "call": call}
    sample = partial(draw, pipe, CalibrationTrace(classifier), asked, numbers, **call)
    sets = {}
    for name, start in (("fit", 0), ("report", args.samples)):
        seeds, size = range(start, start + args.samples), args.batch_size
        store = collect(args.work / name, seeds, sample, lambda *_: {}, settings, size, chunk=size)
        arrays = {key: torch.from_numpy(store.array(key)) for key in ("logits", "labels", "levels")}
        sets[name] = (arrays["logits"].transpose(0, 1), arrays["labels"])
    levels = [
        dict(zip(("step", "timestep", "alpha", "sigma"), row.tolist(), strict=True)) for row in arrays["levels"][0]
    ]
    rows = report(sets["fit"], sets["report"], [level | {"step": int(level["step"])} for level in levels])
    temperatures = fit_temperatures(*sets["fit"], args.ratio)
    short = args.classifier if spec.keys() == {"spec"} else spec
    config = [{"callback": "ClassifierGuidance", "classifier": short, **temperatures}]
    seeds = {"fit": f"0-{args.samples - 1}", "report": f"{args.samples}-{2 * args.samples - 1}"}
    facts = {"samples": args.samples, "seeds": seeds, "steps": args.steps, "pipeline": args.pipeline}
    write_report(args.out, describe_run(**facts, classifier=classifier.identity(), guidance=config), rows)
    plot(args.out.with_suffix(".png"), sets["report"], temperatures["tau_joint"])
    if args.save_guidance:
        write_json(args.save_guidance, config)
    print(table(rows))
    print(f"{temperatures}; {args.out} and {args.out.with_suffix('.png')}")


def main() -> None:
    args = parser().parse_args()
    try:
        run(args)
    except (ValueError, OSError) as error:
        sys.exit(f"calibrate.py: {error}")


if __name__ == "__main__":
    main()
